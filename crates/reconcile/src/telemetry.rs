//! Export of spans over OTLP/HTTP, where somebody asks for it by the environment variables of OpenTelemetry. Owns the
//! exporter; which spans there are, is said where they are opened. A collector that does not answer costs spans, and
//! nothing else.
use crate::{Fault, fault::chain};
use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::{SpanExporter, WithExportConfig};
use opentelemetry_sdk::{Resource, trace::SdkTracerProvider};
use tracing::{Subscriber, level_filters::LevelFilter};
use tracing_subscriber::{Layer, registry::LookupSpan};

/// Where to, for all signals; `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT` is for spans alone.
const ENDPOINTS: [&str; 2] = [
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
];

/// An exporter of spans. They are sent in batches, by a thread of its own.
#[derive(Debug)]
pub struct Telemetry(SdkTracerProvider);

impl Telemetry {
    /// As the environment says, or none where it says nothing. `service` is the `service.name` of the spans.
    pub fn from_environment(service: &str) -> Result<Option<Self>, Fault> {
        let asked = ENDPOINTS.iter().any(|name| std::env::var_os(name).is_some());
        asked.then(|| Self::start(service, None)).transpose()
    }

    /// To this URL: `http://localhost:4318/v1/traces`.
    pub fn to(endpoint: &str, service: &str) -> Result<Self, Fault> {
        Self::start(service, Some(endpoint))
    }

    fn start(service: &str, endpoint: Option<&str>) -> Result<Self, Fault> {
        let builder = SpanExporter::builder().with_http();
        let builder = match endpoint {
            Some(endpoint) => builder.with_endpoint(endpoint),
            None => builder,
        };
        let exporter = builder.build().map_err(|error| {
            Fault::invalid("InvalidTelemetry", format!("export spans: {}", chain(&error)))
        })?;
        let resource = Resource::builder().with_service_name(service.to_owned()).build();
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_resource(resource);
        Ok(Self(provider.build()))
    }

    /// What hands over the spans, from INFO on.
    pub fn layer<S: Subscriber + for<'span> LookupSpan<'span>>(&self) -> impl Layer<S> + use<S> {
        tracing_opentelemetry::layer()
            .with_tracer(self.0.tracer("openmcp"))
            .with_filter(LevelFilter::INFO)
    }

    /// Sends what is left; waits some seconds at most. Not to be called by a task.
    pub fn end(self) {
        if let Err(error) = self.0.shutdown() {
            tracing::warn!("the last spans were not exported: {}", chain(&error));
        }
    }
}
