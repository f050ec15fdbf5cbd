//! `dev up`: from nothing, or from whatever is left, to a platform that is ready.
use crate::{
    assets::{Assets, Tool},
    console::{Steps, this_program},
    control_plane::{Component, ControlPlane, Died},
    images::Images,
    openmcp,
    prerequisites::{ensure_bubblewrap, find_program},
    state::{Home, Lock, Platform, private_folder},
};
use std::{path::PathBuf, time::Instant};
use tokio::task::spawn_blocking;

/// What to start.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    pub(crate) name: String,
    pub(crate) kubernetes_only: bool,
    pub(crate) images: Vec<(String, PathBuf)>,
    pub(crate) with_kro: bool,
}

impl Options {
    fn tools(&self) -> Vec<Tool> {
        let kro = self.with_kro.then_some(Tool::Kro);
        Tool::PLATFORM.into_iter().chain(kro).collect()
    }
}

/// Starts what is missing and waits until everything is ready. Idempotent; may be interrupted at any point.
pub(crate) async fn up(home: &Home, options: &Options) -> anyhow::Result<Platform> {
    let steps = Steps::begin(&format!("openMCP platform {:?}", options.name));
    let (assets, platform, images, _lock) = {
        let (home, options) = (home.clone(), options.clone());
        spawn_blocking(move || prepare(&home, &options)).await??
    };
    let since = Instant::now();
    let mut control_plane = ControlPlane::open(&platform, &assets)?;
    control_plane.prepare()?;
    images.write(&platform.path("images.json"))?;
    steps.done(
        "keys and configuration",
        &platform.folder.display().to_string(),
        since,
    );
    start(&mut control_plane, &steps, &platform).await?;
    openmcp::admit_platform_owner(&control_plane).await?;
    if !options.kubernetes_only {
        openmcp::install(&platform, &control_plane, &images, &steps).await?;
    }
    say!("ready after {}", steps.elapsed());
    Ok(platform)
}

/// Everything that can be found wrong before anything is started.
fn prepare(home: &Home, options: &Options) -> anyhow::Result<(Assets, Platform, Images, Lock)> {
    let assets = Assets::from_env(home);
    private_folder(&home.state)?;
    Images::collect(&assets, &options.images, !options.kubernetes_only)?;
    ensure_bubblewrap()?;
    assets.ensure(&options.tools())?;
    // Taken last: whoever waits for another command's build must not keep `down` waiting.
    let lock = Platform::lock(home, &options.name)?;
    let images = Images::collect(&assets, &options.images, !options.kubernetes_only)?;
    let platform = Platform::find_or_create(home, &options.name)?;
    Ok((assets, platform, images, lock))
}

/// Starts the components in the order of their dependencies, those that do not depend on each other at once.
async fn start(
    control_plane: &mut ControlPlane<'_>,
    steps: &Steps,
    platform: &Platform,
) -> anyhow::Result<()> {
    use Component::{ApiServer, ControllerManager, Etcd, HostedEtcd, Node, Scheduler};
    for wave in [
        [Etcd, HostedEtcd].as_slice(),
        &[ApiServer],
        &[ControllerManager, Scheduler, Node],
    ] {
        if let Err(error) = start_wave(control_plane, wave, steps, platform).await {
            // What is being killed still counts as running for a moment: then it was found, and is gone now.
            match error.downcast_ref::<Died>() {
                Some(Died {
                    found_running: true, ..
                }) => start_wave(control_plane, wave, steps, platform).await?,
                _ => return Err(error),
            }
        }
    }
    Ok(())
}

async fn start_wave(
    control_plane: &mut ControlPlane<'_>,
    wave: &[Component],
    steps: &Steps,
    platform: &Platform,
) -> anyhow::Result<()> {
    let since = Instant::now();
    let mut started = Vec::with_capacity(wave.len());
    for component in wave {
        started.push(control_plane.start(*component)?);
    }
    let control_plane = &*control_plane;
    let ready = wave.iter().zip(started).map(|(component, new)| async move {
        control_plane.wait_ready(*component, !new).await?;
        let address = component.addresses(platform)[0].to_string();
        let note = if new {
            address
        } else {
            format!("{address} (was running)")
        };
        steps.done(component.name(), &note, since);
        anyhow::Ok(())
    });
    futures::future::try_join_all(ready).await?;
    Ok(())
}

/// Ends a build that was interrupted. What was started stays, recorded.
pub(crate) fn abandon(home: &Home) {
    Assets::from_env(home).abandon();
}

/// The last lines: where the kubeconfigs are and what to do next.
pub(crate) fn say_how_to_go_on(home: &Home, platform: &Platform, options: &Options) {
    let assets = Assets::from_env(home);
    let name = if options.name == "dev" {
        String::new()
    } else {
        format!(" --name {}", options.name)
    };
    let program = this_program();
    say!();
    say_where_kubectl_is(&assets);
    say!(
        "  export KUBECONFIG=$({program} dev kubeconfig{name})    # as platform owner, on the platform cluster"
    );
    if options.kubernetes_only {
        say!("  kubectl get nodes");
    } else {
        say!("  kubectl get clusterproviders,clusters,accessrequests -A");
        say!(
            "  kubectl --kubeconfig {} get controlplanes -A",
            platform.kubeconfig_path("onboarding").display()
        );
    }
    say!("  {program} dev status{name}\n  {program} dev down{name}");
}

/// For who has no kubectl: one was built with the platform.
pub(crate) fn say_where_kubectl_is(assets: &Assets) {
    if let (None, Some(kubectl)) = (find_program("kubectl"), assets.find(Tool::Kubectl)) {
        say!(
            "  export PATH=$PATH:{}",
            kubectl.parent().unwrap_or(&kubectl).display()
        );
    }
}
