//! Calls of a back end: provider code that does I/O, kept from doing harm. A panic, a wait without end and a back end
//! that does not answer are faults of the service objects that need it, and cost the others nothing.
use super::{Answer, Erased, ExternalFault, ExternalResource, Externals, Observation, Removal};
use openmcp_reconcile::{Environment, Fault, cluster::Breaker, environment::chance, fault::Class};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{task::JoinSet, time::Instant};

/// A call that takes longer is cancelled.
const PATIENCE: Duration = Duration::from_secs(10);

/// All back ends of a provider.
pub(crate) struct Calls {
    backends: HashMap<&'static str, Backend>,
    environment: Environment,
    start: Instant,
}

struct Backend {
    service: Arc<dyn Erased>,
    /// While it is open, nobody's pass waits for this back end.
    breaker: Mutex<Breaker>,
}

impl Backend {
    fn breaker(&self) -> MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Calls {
    pub(crate) fn new(externals: Externals, environment: Environment) -> Self {
        let backend = |(name, service)| {
            let breaker = Mutex::default();
            (name, Backend { service, breaker })
        };
        Self {
            backends: externals.0.into_iter().map(backend).collect(),
            environment,
            start: Instant::now(),
        }
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.backends.is_empty()
    }

    pub(super) async fn observe(&self, backend: &str, of: &ExternalResource) -> Result<Observation, Fault> {
        let of = of.clone();
        self.call(backend, "observe", &of.key.clone(), move |it| it.observe(of))
            .await
    }

    pub(super) async fn create(&self, backend: &str, of: &ExternalResource) -> Result<String, Fault> {
        self.may_write()?;
        let of = of.clone();
        self.call(backend, "create", &of.key.clone(), move |it| it.create(of))
            .await
    }

    pub(super) async fn update(&self, backend: &str, of: &ExternalResource, diff: &str) -> Result<(), Fault> {
        self.may_write()?;
        let (of, diff) = (of.clone(), diff.to_owned());
        self.call(backend, "update", &of.key.clone(), move |it| it.update(of, diff))
            .await
    }

    pub(super) async fn delete(&self, backend: &str, of: &ExternalResource) -> Result<Removal, Fault> {
        self.may_write()?;
        let of = of.clone();
        self.call(backend, "delete", &of.key.clone(), move |it| it.delete(of))
            .await
    }

    /// When what is well is looked at again.
    pub(super) fn interval(&self, backend: &str) -> Duration {
        let interval = self
            .backends
            .get(backend)
            .map_or(PATIENCE, |it| it.service.interval());
        interval.mul_f64(0.8 + 0.4 * chance())
    }

    /// I7: one writer, here as on API servers.
    fn may_write(&self) -> Result<(), Fault> {
        match self.environment.may_write() {
            true => Ok(()),
            false => Err(Fault::retry("NotLeading", "this process may not write any more")),
        }
    }

    async fn call<T: Send + 'static>(
        &self,
        name: &str,
        what: &'static str,
        key: &str,
        ask: impl FnOnce(Arc<dyn Erased>) -> Answer<T>,
    ) -> Result<T, Fault> {
        let said = |why: &str| format!("{name} {key}: {what}: {why}");
        let backend = self.backends.get(name).ok_or_else(|| {
            let message = format!("{name} {key}: this release of the provider has no back end {name}");
            Fault::new(Class::Bug, "UnknownBackEnd", message)
        })?;
        if let Err(again) = backend.breaker().admit(self.start.elapsed()) {
            return Err(unreachable(&said("the back end does not answer; it is asked seldom")).after(again));
        }
        // A task, so that a panic ends there; dropped with this pass, and cancelled thereby.
        let mut task = JoinSet::new();
        task.spawn(ask(backend.service.clone()));
        let ended = tokio::time::timeout(PATIENCE, task.join_next()).await;
        if matches!(ended, Err(_) | Ok(Some(Ok(Err(ExternalFault::Unreachable(_)))))) {
            backend.breaker().failed(self.start.elapsed(), chance());
        } else {
            backend.breaker().succeeded();
        }
        match ended {
            Ok(Some(Ok(Ok(answer)))) => Ok(answer),
            Ok(Some(Ok(Err(fault)))) => Err(classified(fault, said)),
            Ok(Some(Err(panic))) => {
                let message = said(&format!(
                    "the provider panicked, please report it to its authors: {panic}"
                ));
                Err(Fault::new(Class::Bug, "ProviderPanicked", message))
            }
            Ok(None) => Err(Fault::bug(said("it was never asked"))),
            Err(_elapsed) => Err(unreachable(&said(&format!("no answer within {PATIENCE:?}")))),
        }
    }
}

fn unreachable(message: &str) -> Fault {
    Fault::new(Class::Unreachable, "ExternalUnreachable", message)
}

fn classified(fault: ExternalFault, said: impl Fn(&str) -> String) -> Fault {
    let message = said(&fault.to_string());
    match fault {
        ExternalFault::Retry { after, .. } => {
            let mut fault = Fault::retry("ExternalFailed", message);
            fault.retry_after = after;
            fault
        }
        ExternalFault::Invalid(_) => Fault::invalid("ExternalInvalid", message),
        ExternalFault::Denied(_) => Fault::new(Class::Denied, "ExternalDenied", message),
        ExternalFault::Unreachable(_) => unreachable(&message),
        ExternalFault::Bug(_) => Fault::new(Class::Bug, "ExternalBug", message),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;
    use crate::ExternalService;

    /// Panics for the key `panic`, never answers any other.
    struct Broken;

    impl ExternalService for Broken {
        async fn observe(&self, resource: &ExternalResource) -> Result<Observation, ExternalFault> {
            assert_ne!(resource.key(), "panic");
            std::future::pending().await
        }
        async fn create(&self, _: &ExternalResource) -> Result<String, ExternalFault> {
            Err(ExternalFault::Invalid("too small".to_owned()))
        }
        async fn update(&self, _: &ExternalResource, _: &str) -> Result<(), ExternalFault> {
            Ok(())
        }
        async fn delete(&self, _: &ExternalResource) -> Result<Removal, ExternalFault> {
            Ok(Removal::Gone)
        }
    }

    fn resource(key: &str) -> ExternalResource {
        ExternalResource {
            key: key.to_owned(),
            owner: "Greeter team/one".to_owned(),
            nonce: "n".to_owned(),
            name: None,
            spec: None,
        }
    }

    fn calls(environment: Environment) -> Calls {
        Calls::new(Externals::new().with("databases", Broken), environment)
    }

    #[tokio::test(start_paused = true)]
    async fn a_back_end_that_does_not_answer_is_soon_not_asked_any_more() {
        let calls = calls(Environment::default());
        for _ in 0..3 {
            let fault = calls.observe("databases", &resource("main")).await.unwrap_err();
            assert!(fault.message.contains("no answer within 10s"), "{fault}");
        }
        let before = Instant::now();
        let fault = calls.observe("databases", &resource("main")).await.unwrap_err();
        assert_eq!(
            (fault.class, fault.reason),
            (Class::Unreachable, "ExternalUnreachable")
        );
        assert!(
            fault.retry_after.is_some() && before.elapsed().is_zero(),
            "{fault}"
        );
    }

    #[tokio::test]
    async fn a_panic_is_a_fault_and_so_is_a_back_end_that_nobody_registered() {
        let calls = calls(Environment::default());
        let fault = calls.observe("databases", &resource("panic")).await.unwrap_err();
        assert_eq!((fault.class, fault.reason), (Class::Bug, "ProviderPanicked"));
        let fault = calls.observe("queues", &resource("main")).await.unwrap_err();
        assert_eq!(fault.reason, "UnknownBackEnd");
        let fault = calls.create("databases", &resource("main")).await.unwrap_err();
        assert_eq!(
            (fault.class, fault.message.as_str()),
            (Class::Invalid, "databases main: create: too small")
        );
    }

    #[tokio::test]
    async fn i7_who_may_not_write_changes_nothing_in_a_back_end_either() {
        let calls = calls(Environment::default().read_only());
        let fault = calls.delete("databases", &resource("main")).await.unwrap_err();
        assert_eq!(fault.reason, "NotLeading");
    }
}
