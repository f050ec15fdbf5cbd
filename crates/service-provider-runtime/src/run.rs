//! `run`: watches, wiring, workers. Knows which change wakes which service object; nothing of what is done then.
use crate::{
    access::{Connections, Credentials, Requests},
    archive::{self, Archive, Unread},
    contained::Contained,
    dependents::Dependents,
    external::{Calls, Looks},
    fanout::FanOut,
    inventories::Inventories,
    onboarding::Onboarding,
    pipeline::{Pipeline, operation},
    provider::ServiceProvider,
    singles::Singles,
    unrecorded,
    world::{Names, Presence, Statuses, World},
};
use kube::{Api, Resource, runtime::watcher};
use openmcp_api::{
    AccessRequest, Cluster, ClusterRequest, ControlPlane,
    keys::{annotations, labels},
    names,
};
use openmcp_reconcile::{
    Controller, Fault, Key, Lane, Limits,
    admin::Readiness,
    children::{Children, Engine},
    cluster::Connection,
    controller::Handle,
    digest::Digester,
    events::Recorder,
    fault::Class,
    watch::{self, Change, Place, Store},
};
use serde::{Serialize, de::DeserializeOwned};
use std::{fmt::Debug, sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;

/// A watch that nobody needs any more ends after this: longer than a re-order of objects, shorter than a coffee.
const LINGER: Duration = Duration::from_secs(60);
const ONBOARDING: &str = "access to the onboarding cluster";
const CACHES: &str = "first lists of all watches";

/// What watches need to wake somebody.
#[derive(Clone)]
struct Bell {
    handle: Handle,
    fan_out: FanOut,
    dependents: Arc<Dependents>,
    kind: &'static str,
}

impl Bell {
    /// Those who read the object.
    fn readers(&self, kind: &'static str, at: &Place) {
        self.fan_out
            .readers(self.dependents.of(kind, at.namespace(), at.name()));
    }

    /// The service object of this name.
    fn object(&self, namespace: &str, name: &str, lane: Lane) {
        self.handle.wake(Key::new(self.kind, namespace, name), lane);
    }
}

/// Between two tries to get at the onboarding cluster.
const RETRY: Duration = Duration::from_secs(1);

/// A controller with everything that its passes need.
pub(crate) type Warm<P> = (Controller, Arc<World<P>>);

/// Connects, starts the watches and waits for their first lists. Nothing is reconciled yet.
pub(crate) async fn warm<P: ServiceProvider>(
    provider: P,
    names: Names,
    platform: &Connection,
    readiness: &Readiness,
    shutdown: &CancellationToken,
) -> Result<Warm<P>, Fault> {
    readiness.wait_for(ONBOARDING);
    readiness.wait_for(CACHES);
    let static_access = Onboarding::of_run::<P>(platform, &names);
    let (onboarding, identity) = loop {
        match identified(&static_access, &names).await {
            Ok(connected) => break connected,
            // Also while this process stands by: then it may not ask, and the leader does.
            Err(fault) if matches!(fault.class, Class::Retry | Class::Unreachable) => {
                tracing::warn!("{fault}");
                tokio::time::sleep(RETRY).await;
            }
            Err(fault) => return Err(fault),
        }
    };
    readiness.done(ONBOARDING);
    tokio::spawn(static_access.keep(onboarding.clone(), shutdown.clone()));
    // Unknown to tenants, and as old as the installation.
    let secret = platform
        .identity()
        .await?
        .ok_or_else(|| Fault::retry("ClusterStarting", "the platform cluster has no kube-system yet"))?;
    let controller = Controller::new(names.provider, Limits::default()).within(platform.environment());
    let handle = controller.handle();
    let tenants = (&onboarding, identity);
    let world = build(provider, names, platform, tenants, &secret, handle, shutdown);
    synced(&world).await;
    readiness.done(CACHES);
    Ok((controller, Arc::new(world)))
}

/// The onboarding cluster, and which one it is.
async fn identified(access: &Onboarding, names: &Names) -> Result<(Connection, String), Fault> {
    let onboarding = access.connect(&names.user_agent()).await?;
    match onboarding.identity().await? {
        Some(identity) => Ok((onboarding, identity)),
        None => Err(Fault::retry(
            "ClusterStarting",
            "the onboarding cluster has no kube-system yet",
        )),
    }
}

/// Reconciles until `shutdown`.
pub(crate) async fn serve<P: ServiceProvider>((controller, world): &Warm<P>, shutdown: CancellationToken) {
    tracing::info!(
        provider = world.names.provider,
        kind = world.names.kind,
        "serving"
    );
    tokio::select! {
        () = controller.run(Arc::new(Pipeline(world.clone())), shutdown) => {}
        never = unrecorded::look_out(world) => match never {},
    }
}

/// Waits until nothing is left of a [`serve`] that was dropped.
pub(crate) async fn rest<P: ServiceProvider>((controller, _): &Warm<P>) {
    controller.rest().await;
}

fn build<P: ServiceProvider>(
    provider: P,
    names: Names,
    platform: &Connection,
    (onboarding, identity): (&Connection, String),
    secret: &str,
    handle: Handle,
    shutdown: &CancellationToken,
) -> World<P> {
    let (client, tenants) = (platform.client(), onboarding.client());
    let dependents = Arc::<Dependents>::default();
    let fan_out = FanOut::new(handle.clone());
    let bell = Bell {
        handle: handle.clone(),
        fan_out: fan_out.clone(),
        dependents: dependents.clone(),
        kind: names.kind,
    };
    let ours = format!(
        "{}={}",
        labels::RUNTIME_PROVIDER,
        names::label_value(names.provider)
    );
    let waker = handle.clone();
    let children = Children::new(
        Digester::new(names.provider, secret),
        ours.clone(),
        LINGER,
        move |key: &Key, lane| {
            waker.wake(key.clone(), lane);
        },
    );
    let statuses = Arc::<Statuses>::default();
    let objects = watch_objects::<P>(&tenants, bell.clone(), statuses.clone(), shutdown);
    let credentials = Credentials::watch(
        client.clone(),
        secret,
        names.provider,
        fan_out.clone(),
        dependents.clone(),
        shutdown.clone(),
    );
    let config_maps = Singles::new(
        World::<P>::CONFIG_MAP,
        client.clone(),
        fan_out,
        dependents.clone(),
        shutdown.clone(),
    );
    let inventories = watch_inventories(&client, names.provider, identity, &ours, bell.clone(), shutdown);
    World {
        requests: Requests {
            client: client.clone(),
            provider: names.provider,
            home: names.home.clone(),
            clusters: readers::<Cluster>(&client, Requests::CLUSTER, &bell, shutdown),
            cluster_requests: readers::<ClusterRequest>(&client, Requests::CLUSTER_REQUEST, &bell, shutdown),
            access_requests: readers::<AccessRequest>(&client, Requests::ACCESS_REQUEST, &bell, shutdown),
            connections: Connections::new(
                credentials,
                dependents.clone(),
                handle.clone(),
                names.user_agent(),
                platform.environment().clone(),
            ),
            dependents: dependents.clone(),
        },
        inventories,
        config_maps,
        configs: watch_config::<P>(&client, names.provider, objects.clone(), bell.clone(), shutdown),
        control_planes: watch_control_planes(&tenants, bell, shutdown),
        recorder: Recorder::within(platform.environment(), tenants.clone(), names.provider),
        environment: platform.environment().clone(),
        onboarding: tenants,
        objects,
        engine: Engine::new(children),
        dependents,
        handle,
        statuses,
        contained: Contained::within(platform.environment()),
        backends: Calls::new(provider.externals(), platform.environment().clone()),
        looks: Looks::default(),
        provider,
        names,
    }
}

/// Absence means something only after the first complete list.
async fn synced<P: ServiceProvider>(world: &World<P>) {
    world.requests.clusters.synced().await;
    world.requests.cluster_requests.synced().await;
    world.requests.access_requests.synced().await;
    world.requests.connections.synced().await;
    world.inventories.synced().await;
    world.configs.synced().await;
    world.control_planes.synced().await;
    world.objects.synced().await;
}

/// All objects of a kind on the platform; changes wake those who read them.
fn readers<K>(
    client: &kube::Client,
    kind: &'static str,
    bell: &Bell,
    shutdown: &CancellationToken,
) -> Archive<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + Serialize + DeserializeOwned + Send + Sync + 'static,
{
    let bell = bell.clone();
    Archive::watch(
        Api::<K>::all(client.clone()),
        watcher::Config::default(),
        shutdown.clone(),
        // Others' objects: what they say newly must not stop what stands by what they said.
        Unread::LastWords,
        move |change| bell.readers(kind, change.place()),
    )
}

/// The service objects. A change of nothing but status, or of what we write ourselves, wakes nobody.
fn watch_objects<P: ServiceProvider>(
    client: &kube::Client,
    bell: Bell,
    statuses: Arc<Statuses>,
    shutdown: &CancellationToken,
) -> Archive<P::Api> {
    Archive::watch(
        Api::<P::Api>::all(client.clone()),
        watcher::Config::default(),
        shutdown.clone(),
        Unread::Nothing,
        move |change| {
            let at = change.place();
            let lane = match &change {
                Change::Applied { first: true, .. } => Lane::Bulk,
                Change::Applied {
                    object,
                    old: Some(old),
                    ..
                } if old.wants_the_same(object) => {
                    statuses.seen(&Key::new(bell.kind, at.namespace(), at.name()), object);
                    return;
                }
                _ => Lane::Urgent,
            };
            bell.object(at.namespace(), at.name(), lane);
        },
    )
}

/// The ControlPlanes: each wakes the service object of its name.
fn watch_control_planes(client: &kube::Client, bell: Bell, shutdown: &CancellationToken) -> Store<Presence> {
    watch::watch_reduced(
        Api::<ControlPlane>::all(client.clone()),
        watcher::Config::default(),
        shutdown.clone(),
        |object: Result<ControlPlane, _>| {
            let meta = object.map_or_else(|broken| broken.metadata, |object| object.metadata);
            Some(Presence {
                terminates: meta.deletion_timestamp.is_some(),
                wish: archive::wish(&meta),
            })
        },
        move |change| {
            if let Change::Applied {
                object,
                old: Some(old),
                ..
            } = &change
                && old.wish == object.wish
            {
                return;
            }
            let at = change.place();
            bell.object(at.namespace(), at.name(), Lane::Normal);
        },
    )
}

/// Our Inventories: after a start, those whose service object is gone are finished.
fn watch_inventories(
    client: &kube::Client,
    provider: &str,
    onboarding: String,
    ours: &str,
    bell: Bell,
    shutdown: &CancellationToken,
) -> Inventories {
    let config = watcher::Config::default().labels(ours);
    Inventories::watch(
        client.clone(),
        provider.to_owned(),
        onboarding,
        config,
        shutdown.clone(),
        move |owner| {
            bell.object(&owner.namespace, &owner.name, Lane::Bulk);
        },
    )
}

/// The ProviderConfig of this provider: a change concerns every service object.
fn watch_config<P: ServiceProvider>(
    client: &kube::Client,
    provider: &'static str,
    objects: Archive<P::Api>,
    bell: Bell,
    shutdown: &CancellationToken,
) -> Store<P::Config> {
    let api = Api::<P::Config>::all(client.clone());
    let config = watcher::Config::default().fields(&format!("metadata.name={provider}"));
    let owner = api.clone();
    let Bell { fan_out, kind, .. } = bell;
    let all = move || {
        let mut places = objects.places();
        places.sort_unstable();
        let keys = places.into_iter();
        keys.map(|(namespace, name)| Key::new(kind, namespace, name))
            .collect()
    };
    tokio::spawn(fan_out.clone().run(all, shutdown.clone()));
    watch::watch(api, config, shutdown.clone(), move |change| {
        let object = change.object().clone();
        if let Change::Applied {
            object,
            old: Some(old),
            ..
        } = &change
            && archive::wish(old.meta()) == archive::wish(object.meta())
        {
            return;
        }
        if operation::operation(&*object) == Some(annotations::OPERATION_RECONCILE) {
            let owner = owner.clone();
            tokio::spawn(async move {
                if let Err(fault) =
                    crate::object::remove_annotation(&owner, &*object, annotations::OPERATION).await
                {
                    tracing::warn!("{fault}");
                }
            });
        }
        fan_out.start();
    })
}
