//! The process's log; and with the feature `telemetry` its spans, exported where `OTEL_EXPORTER_OTLP_ENDPOINT` is set.
use openmcp_reconcile::Fault;
#[cfg(feature = "telemetry")]
use openmcp_reconcile::telemetry::Telemetry;
use tracing_subscriber::{EnvFilter, Layer, fmt, layer::SubscriberExt, registry, util::SubscriberInitExt};

/// While it is held, the process tells what it does.
#[must_use]
pub(crate) struct Log {
    #[cfg(feature = "telemetry")]
    spans: Option<Telemetry>,
}

impl Log {
    /// `RUST_LOG` wins over `verbosity`.
    #[cfg_attr(
        not(feature = "telemetry"),
        allow(unused_variables, clippy::unnecessary_wraps)
    )]
    pub(crate) fn start(verbosity: &str, provider: &str) -> Result<Self, Fault> {
        let level = verbosity.to_lowercase();
        let filter = EnvFilter::try_from_default_env()
            .unwrap_or_else(|_| EnvFilter::new(format!("{level},kube_runtime=error")));
        let text = fmt::layer()
            .json()
            .with_writer(std::io::stderr)
            .with_filter(filter);
        let log = registry().with(text);
        #[cfg(feature = "telemetry")]
        let spans = Telemetry::from_environment(provider)?;
        #[cfg(feature = "telemetry")]
        let log = log.with(spans.as_ref().map(Telemetry::layer));
        log.init();
        Ok(Self {
            #[cfg(feature = "telemetry")]
            spans,
        })
    }

    /// Sends what is left.
    pub(crate) fn end(self) {
        #[cfg(feature = "telemetry")]
        if let Some(spans) = self.spans {
            spans.end();
        }
    }
}
