//! One reconcile of one provider: finalizer → status of the generation → init → run → status.
use super::{
    NAME,
    desired::Installation,
    effects::Effects,
    state::{self, Init},
    status::{Standing, Told},
    uninstall::{Removal, Uninstall},
};
use crate::{
    ensure::{Applier, is_news},
    meta::{self, Operation, is_deleting},
    onboarding::Slot,
    platform::Platform,
    report::{self, Report},
};
use jiff::Timestamp;
use kube::Api;
use openmcp_api::{
    ClusterProvider, PlatformService, ServiceProvider,
    conditions::{self, provider::INITIALIZED},
    keys::{finalizers, labels},
    names::Component,
    provider::{DeploymentStatus, MetricsStatus, Provider, ProviderKind},
};
use openmcp_reconcile::{
    Fault, Key, Outcome, Reconciler,
    apply::Mark,
    events::Recorder,
    fault::Class,
    status::{Observed, apply_status, merge_conditions},
    watch::Store,
};
use serde::de::DeserializeOwned;
use serde_json::json;
use std::{fmt::Debug, sync::Arc, time::Duration};

/// Reconciles providers of all three kinds.
pub(crate) struct Install {
    pub platform: Arc<Platform>,
    /// The onboarding cluster, once it can be reached: uninstalling looks there for live service objects.
    pub onboarding: Slot,
    pub events: Recorder,
    apply: Applier,
}

impl Reconciler for Install {
    async fn reconcile(&self, key: &Key) -> Result<Outcome, Fault> {
        match ProviderKind::ALL
            .into_iter()
            .find(|kind| kind.as_str() == key.kind)
        {
            Some(ProviderKind::Service) => {
                self.one::<ServiceProvider>(&self.platform.service_providers, &key.name)
                    .await
            }
            Some(ProviderKind::Cluster) => {
                self.one::<ClusterProvider>(&self.platform.cluster_providers, &key.name)
                    .await
            }
            Some(ProviderKind::Platform) => {
                self.one::<PlatformService>(&self.platform.platform_services, &key.name)
                    .await
            }
            None => Err(Fault::new(
                Class::Bug,
                "UnknownKind",
                format!("{key} is no provider"),
            )),
        }
    }

    async fn report(&self, key: &Key, fault: &Fault) {
        let (events, platform, name) = (&self.events, &*self.platform, &*key.name);
        // One of these kinds is that of the key.
        if key.kind == ProviderKind::Service.as_str() {
            report::cut_off(events, platform.service_providers.get("", name).as_deref(), fault);
        } else if key.kind == ProviderKind::Cluster.as_str() {
            report::cut_off(events, platform.cluster_providers.get("", name).as_deref(), fault);
        } else {
            report::cut_off(events, platform.platform_services.get("", name).as_deref(), fault);
        }
    }
}

/// What a provider must be, to be installed.
pub(super) trait Installable:
    Provider + Clone + Debug + DeserializeOwned + Send + Sync + 'static
{
}
impl<P: Provider + Clone + Debug + DeserializeOwned + Send + Sync + 'static> Installable for P {}

impl Install {
    pub(crate) fn new(platform: Arc<Platform>, onboarding: Slot, events: Recorder) -> Self {
        let mark = Mark {
            label: labels::APP_MANAGED_BY,
            value: labels::MANAGED_BY_OPERATOR.to_owned(),
        };
        let apply = Applier {
            client: platform.client.clone(),
            manager: NAME,
            mark,
        };
        Self {
            platform,
            onboarding,
            events,
            apply,
        }
    }

    async fn one<P: Installable>(&self, store: &Store<P>, name: &str) -> Result<Outcome, Fault> {
        let Some(provider) = store.get("", name) else {
            return Ok(Outcome::Settled);
        };
        let api: Api<P> = Api::all(self.platform.client.clone());
        if is_deleting(provider.as_ref()) {
            return self.remove(&api, &provider).await;
        }
        if meta::operation(provider.as_ref()) == Some(Operation::Ignore) {
            return Ok(Outcome::Settled);
        }
        let Some(provider) = meta::add_finalizers(&api, provider.as_ref(), &[finalizers::PROVIDER]).await?
        else {
            return Ok(Outcome::Settled);
        };
        if meta::operation(&provider) == Some(Operation::Reconcile) {
            meta::take_operation(&api, &provider).await?;
            return Ok(Outcome::Settled);
        }
        let of = Installation::new(&provider, &self.platform.namespace, &self.platform.environment);
        let effects = Effects {
            platform: &self.platform,
            apply: &self.apply,
            of: &of,
        };
        let status = provider.deployment_status();
        if status.is_none_or(|s| s.observed_generation != of.generation) {
            // Before init runs: it writes into the status, which without observedGeneration is refused (contract §11.6).
            let pending = Told::init_pending(format!("init of generation {} has not run yet", of.generation));
            let standing = Standing {
                conditions: vec![pending, effects.run_state()],
                metrics: None,
            };
            self.write(&api, &provider, standing).await?;
            // The write wakes this provider again, with the status in its store.
            return Ok(Outcome::Settled);
        }
        match self.install(&effects, status).await {
            Ok((standing, outcome)) => {
                self.write(&api, &provider, standing).await?;
                Ok(outcome)
            }
            Err(fault) => {
                if is_news(&fault) {
                    self.write(&api, &provider, failed(&effects, status, &fault))
                        .await?;
                }
                Err(fault)
            }
        }
    }

    async fn install(
        &self,
        effects: &Effects<'_>,
        status: Option<&DeploymentStatus>,
    ) -> Result<(Standing, Outcome), Fault> {
        let of = effects.of;
        let clashing = of.clashing_env();
        if !clashing.is_empty() {
            let names: Vec<_> = clashing.into_iter().collect();
            let message = format!(
                "spec.env: {} may not be set here: each name occurs once, and the operator sets POD_* itself. Nothing was changed.",
                names.join(", ")
            );
            return Ok((
                Standing {
                    conditions: vec![Told::init_impossible(message), effects.run_state()],
                    metrics: None,
                },
                Outcome::Settled,
            ));
        }
        let (initialized, outcome) = self.init(effects, status).await?;
        if initialized.status != Some(true) {
            return Ok((
                Standing {
                    conditions: vec![initialized, effects.run_state()],
                    metrics: None,
                },
                outcome,
            ));
        }
        let metrics = effects.start_run().await?;
        let run = match effects.run_state() {
            absent if absent.status.is_none() => Told::not_ready("the Deployment was just made"),
            told => told,
        };
        Ok((
            Standing {
                conditions: vec![initialized, run],
                metrics,
            },
            outcome,
        ))
    }

    async fn init(
        &self,
        effects: &Effects<'_>,
        status: Option<&DeploymentStatus>,
    ) -> Result<(Told, Outcome), Fault> {
        let of = effects.of;
        let name = of.names.object(Component::Init);
        let at = format!("Job {}/{name}", of.namespace);
        let logs = format!("(kubectl -n {} logs job/{name})", of.namespace);
        let job = self.platform.installed.jobs.get(of.namespace, &name);
        let told = match state::init(job.as_deref(), &effects.pods(Component::Init), of.generation) {
            Init::Absent => {
                effects.start_init().await?;
                Told::init_running(format!("{at} was started{}", effects.rights(Component::Init)))
            }
            Init::Leaving => {
                let message = format!("{at} of before is still being deleted, or its pods are");
                // A failing init stays False, so that it is known since when it fails.
                if failing_since(status).is_some() {
                    Told::init_running(message)
                } else {
                    Told::init_pending(message)
                }
            }
            Init::Outdated => {
                effects.delete_job().await?;
                Told::init_pending(format!("{at} ran for another generation and is replaced"))
            }
            Init::Running { problem } => {
                effects.init_prerequisites().await?;
                match problem {
                    Some(problem) => Told::init_failing(format!("{at} is running; {problem} {logs}")),
                    None => Told::init_running(format!("{at} is running{}", effects.rights(Component::Init))),
                }
            }
            Init::Failed {
                at: failed_at,
                problem,
            } => {
                let told = Told::init_failed(format!(
                    "{at} failed: {problem} {logs}. It is started again after a while, and at once when the spec changes."
                ));
                let left = time_to_rest(status, failed_at);
                if left.is_zero() {
                    effects.delete_job().await?;
                    return Ok((told, Outcome::Settled));
                }
                return Ok((told, Outcome::Wake(left)));
            }
            Init::Succeeded => {
                effects.init_prerequisites().await?;
                Told::init_completed(format!(
                    "{at} succeeded for generation {}{}",
                    of.generation,
                    effects.rights(Component::Init)
                ))
            }
        };
        Ok((told, Outcome::Settled))
    }

    async fn remove<P: Installable>(&self, api: &Api<P>, provider: &P) -> Result<Outcome, Fault> {
        if !meta::has_finalizer(provider, finalizers::PROVIDER) {
            return Ok(Outcome::Settled);
        }
        let of = Installation::new(provider, &self.platform.namespace, &self.platform.environment);
        let effects = Effects {
            platform: &self.platform,
            apply: &self.apply,
            of: &of,
        };
        let uninstall = Uninstall {
            effects: &effects,
            onboarding: &self.onboarding,
        };
        let told = match uninstall.step(provider).await {
            Ok(Removal::Gone) => {
                meta::remove_finalizers(api, provider, |f| f == finalizers::PROVIDER).await?;
                return Ok(Outcome::Settled);
            }
            Ok(Removal::Waiting(message)) => Told::uninstalling(message),
            Err(fault) => {
                if is_news(&fault) {
                    let standing = Standing {
                        conditions: vec![Told::uninstall_failed(fault.message.clone())],
                        metrics: None,
                    };
                    self.write(api, provider, standing).await?;
                }
                return Err(fault);
            }
        };
        self.write(
            api,
            provider,
            Standing {
                conditions: vec![told],
                metrics: None,
            },
        )
        .await?;
        Ok(Outcome::Settled)
    }

    /// Writes the status if it differs. Conditions that `standing` does not speak of stay as they are.
    async fn write<P: Installable>(
        &self,
        api: &Api<P>,
        provider: &P,
        standing: Standing,
    ) -> Result<(), Fault> {
        let live = provider.deployment_status().cloned().unwrap_or_default();
        let generation = provider.meta().generation.unwrap_or_default();
        let report = Report {
            events: &self.events,
            action: "Install",
        };
        for told in &standing.conditions {
            report.transition(provider, &live.conditions, &told.observed(), told.reason);
        }
        let spoken: Vec<Observed> = standing.conditions.iter().map(Told::observed).collect();
        let mut observed: Vec<Observed> = live
            .conditions
            .iter()
            .filter(|c| spoken.iter().all(|s| s.type_ != c.type_))
            .map(crate::report::observed)
            .collect();
        observed.extend(spoken);
        let desired = DeploymentStatus {
            conditions: merge_conditions(&live.conditions, &observed, generation, Timestamp::now()),
            observed_generation: generation,
            phase: Some(standing.phase().to_owned()),
            metrics: standing.metrics.map(|service_ref| MetricsStatus { service_ref }),
        };
        apply_status(api, provider, &json!(live), &desired, NAME)
            .await
            .map(drop)
    }
}

/// Since when init has not succeeded, if it has not.
fn failing_since(status: Option<&DeploymentStatus>) -> Option<Timestamp> {
    let initialized = conditions::find(&status?.conditions, INITIALIZED)?;
    (initialized.status == conditions::FALSE).then_some(initialized.last_transition_time.0)
}

/// How much longer a failed init rests.
fn time_to_rest(status: Option<&DeploymentStatus>, failed_at: Option<Timestamp>) -> Duration {
    let now = Timestamp::now();
    let failed_at = failed_at.unwrap_or(now);
    let rested = Duration::try_from(now.duration_since(failed_at)).unwrap_or_default();
    state::rest(failing_since(status).unwrap_or(failed_at), failed_at).saturating_sub(rested)
}

/// A fault while installing, told on the part that it hit.
fn failed(effects: &Effects<'_>, status: Option<&DeploymentStatus>, fault: &Fault) -> Standing {
    let initialized = status.is_some_and(|s| conditions::is_true(&s.conditions, INITIALIZED));
    let conditions = if initialized {
        vec![Told::run_impossible(fault.message.clone())]
    } else {
        vec![Told::init_impossible(fault.message.clone()), effects.run_state()]
    };
    Standing {
        conditions,
        metrics: None,
    }
}
