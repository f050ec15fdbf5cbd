//! The process's log; and with the feature `telemetry` its spans, exported where `OTEL_EXPORTER_OTLP_ENDPOINT` is set.
use crate::Fault;
#[cfg(feature = "telemetry")]
use crate::telemetry::Telemetry;
use tracing_subscriber::{EnvFilter, Layer, fmt, layer::SubscriberExt, registry, util::SubscriberInitExt};

/// How a line of the log looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

/// While it is held, the process tells what it does, on stderr.
#[must_use]
pub struct Log {
    #[cfg(feature = "telemetry")]
    spans: Option<Telemetry>,
}

impl Log {
    /// What is told: as `RUST_LOG` says, else as `directives` do (`info,kube_runtime=error`). `service` is the name of the
    /// process in spans. Once a process.
    ///
    /// An error: the environment asks for spans in a way that is not understood.
    #[cfg_attr(
        not(feature = "telemetry"),
        allow(unused_variables, clippy::unnecessary_wraps)
    )]
    pub fn start(directives: &str, format: Format, service: &str) -> Result<Self, Fault> {
        let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(directives));
        let lines = || fmt::layer().with_writer(std::io::stderr).with_ansi(false);
        let log = registry().with(
            match format {
                Format::Json => lines().json().boxed(),
                Format::Text => lines().boxed(),
            }
            .with_filter(filter),
        );
        #[cfg(feature = "telemetry")]
        let spans = Telemetry::from_environment(service)?;
        #[cfg(feature = "telemetry")]
        let log = log.with(spans.as_ref().map(Telemetry::layer));
        log.init();
        Ok(Self {
            #[cfg(feature = "telemetry")]
            spans,
        })
    }

    /// Sends what is left; waits some seconds at most. Not to be called by a task.
    pub fn end(self) {
        #[cfg(feature = "telemetry")]
        if let Some(spans) = self.spans {
            spans.end();
        }
    }
}
