//! `openmcp demo`: the product's main job, told step by step on a local platform, with every step checked.
//!
//! Owns the story. Must not know how the platform is made ([`crate::dev`]) nor how any controller works: it is
//! told with kubectl, as the people who would type it.
mod repair;
mod stage;
mod story;

use crate::{
    assets::{Assets, Tool},
    console::this_program,
    dev, openmcp,
    state::{Home, Platform, parse_name, private_folder},
};
use anyhow::{Context, bail};
use clap::Args;
use stage::Stage;
use std::path::{Path, PathBuf};
use story::People;

/// What the demo may be told.
#[derive(Args)]
pub(crate) struct Demo {
    /// Leave the platform running with tenant a's service on it, and say how to go on with kubectl.
    #[arg(long)]
    keep: bool,
    /// The platform's name; one of this name that runs already is replaced.
    #[arg(long, default_value = "demo", value_parser = parse_name)]
    name: String,
}

/// Tells the story. The platform is ended whatever happens, unless it shall be kept and all was as told.
pub(crate) fn run(demo: &Demo) -> anyhow::Result<()> {
    let home = Home::from_env()?;
    let folder = examples_folder()?;
    let runtime = tokio::runtime::Runtime::new().context("cannot start the async runtime")?;
    let told = runtime.block_on(async {
        tokio::select! {
            told = tell(&home, demo, &folder) => told,
            signal = dev::interruption() => {
                signal?;
                dev::abandon(&home);
                Err(anyhow::anyhow!("interrupted; cleaning up"))
            }
        }
    });
    if let Err(error) = &told {
        eprintln!("\nnot as told: {error:#}");
    }
    if told.is_ok() && demo.keep {
        return Ok(());
    }
    say!();
    runtime.block_on(dev::down(&home, &demo.name))?;
    runtime.shutdown_background();
    told.map_err(|_| anyhow::anyhow!("the demo did not go as told"))
}

async fn tell(home: &Home, demo: &Demo, folder: &Path) -> anyhow::Result<()> {
    if Platform::find(home, &demo.name)?.is_some() {
        dev::down(home, &demo.name).await?;
    }
    let options = dev::Options {
        name: demo.name.clone(),
        kubernetes_only: false,
        images: Vec::new(),
        with_kro: true,
    };
    let platform = dev::up(home, &options).await?;
    let assets = Assets::from_env(home);
    let kubectl = assets
        .find(Tool::Kubectl)
        .context("kubectl is not there though it was built")?;
    let stage = Stage::new(kubectl, folder.to_owned());
    let people_folder = platform.path("people");
    private_folder(&people_folder)?;
    let people = People::new(
        platform.kubeconfig_path("platform-owner"),
        openmcp::onboarding_kubeconfig(&platform).await?,
        &people_folder,
    );
    story::provider(&stage, &people, &assets.kro_crds()).await?;
    story::tenants(&stage, &people).await?;
    story::order(&stage, &people).await?;
    story::usage(&stage, &people).await?;
    story::breakage(&stage, &people).await?;
    if demo.keep {
        how_to_go_on(&assets, &people, &demo.name);
        return Ok(());
    }
    story::departure(&stage, &people).await?;
    say!("\nAll was as told, in {:.0} s.", stage.elapsed());
    Ok(())
}

/// The demo applies the YAML that the README shows, from the repository in which it was started.
fn examples_folder() -> anyhow::Result<PathBuf> {
    let folder = std::env::current_dir().context("cannot tell the current folder")?;
    if !folder.join("examples/kro/kro.yaml").exists() {
        bail!(
            "there is no examples/kro in {}: run the demo in the repository, by `cargo demo`",
            folder.display()
        );
    }
    Ok(folder)
}

fn how_to_go_on(assets: &Assets, people: &People, name: &str) {
    say!("\nThe platform stays. Go on with kubectl, as one of these:");
    dev::say_where_kubectl_is(assets);
    for person in [&people.owner, &people.tenant_a, &people.tenant_b, &people.on_mcp] {
        say!(
            "  export KUBECONFIG={}   # {}",
            person.kubeconfig.display(),
            person.name
        );
    }
    say!(
        "For example, as tenant a: kubectl get controlplanes,kros -n project-a\n\
         End it with: {} dev down --name {name}",
        this_program()
    );
}
