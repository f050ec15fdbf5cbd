//! What has to be built, and about how long it takes: said before anything starts.
use std::{
    env,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// One thing that a first run builds, with the seconds that it took on two cores.
struct Part {
    name: &'static str,
    from: &'static str,
    seconds: u32,
    present: bool,
}

/// Prints what is going to be built; fails if a tool that it needs is missing.
pub(crate) fn announce(command: &str) -> Result<(), String> {
    let parts = parts();
    let missing: Vec<&Part> = parts.iter().filter(|part| !part.present).collect();
    if missing.is_empty() {
        println!("cargo {command}: everything is built already or needs a small rebuild; starting.");
        return Ok(());
    }
    let minutes = missing.iter().map(|part| part.seconds).sum::<u32>().div_ceil(60);
    println!("cargo {command}: the first run builds what a Kubernetes control plane is made of.");
    println!("About {minutes} minutes on two cores, once; later runs start in seconds. Missing are:");
    for part in &missing {
        println!(
            "  {:<26} {:<34} about {:>3} s",
            part.name, part.from, part.seconds
        );
    }
    let download = env::var_os("OPENMCP_ASSETS_URL").is_some_and(|url| !url.is_empty());
    if missing.iter().any(|part| part.from.starts_with("Go")) && !download && !answers("go", "version") {
        return Err(format!(
            "Go is not installed, and {} is not in {}.\nInstall Go 1.26 or newer, or name a folder with the \
             binaries in OPENMCP_ASSETS, or a web folder with a release in OPENMCP_ASSETS_URL.",
            missing
                .iter()
                .filter(|p| p.from.starts_with("Go"))
                .map(|p| p.name)
                .collect::<Vec<_>>()
                .join(", "),
            assets().display(),
        ));
    }
    Ok(())
}

fn parts() -> Vec<Part> {
    let go = |name, folder: &str, from, seconds| Part {
        name,
        from,
        seconds,
        present: has(folder, name),
    };
    const KUBERNETES: &str = "kubernetes-v1.36.3";
    vec![
        Part {
            name: "openmcp and providers",
            from: "Rust, this workspace",
            seconds: 300,
            present: crate::openmcp().exists(),
        },
        go("kube-apiserver", KUBERNETES, "Go module k8s.io/kubernetes", 330),
        go(
            "kube-controller-manager",
            KUBERNETES,
            "Go module k8s.io/kubernetes",
            84,
        ),
        go("kube-scheduler", KUBERNETES, "Go module k8s.io/kubernetes", 10),
        go("kubectl", KUBERNETES, "Go module k8s.io/kubernetes", 34),
        go("etcd", "etcd-v3.6.8", "Go module go.etcd.io/etcd", 95),
        go("kro", "kro-v0.9.4", "Go module kubernetes-sigs/kro", 300),
    ]
}

/// Whether a Go-built binary is in a folder given by the environment or in the cache.
fn has(folder: &str, name: &str) -> bool {
    ["OPENMCP_ASSETS", "KUBEBUILDER_ASSETS"]
        .iter()
        .filter_map(env::var_os)
        .map(|given| Path::new(&given).join(name))
        .chain([assets().join(folder).join(name)])
        .any(|path| path.exists())
}

/// `$OPENMCP_CACHE/assets`, else under `$XDG_CACHE_HOME/openmcp`, else `~/.cache/openmcp`.
pub(crate) fn assets() -> PathBuf {
    let cache = env::var_os("OPENMCP_CACHE").map(PathBuf::from).or_else(|| {
        env::var_os("XDG_CACHE_HOME")
            .map(PathBuf::from)
            .or_else(|| env::var_os("HOME").map(|home| Path::new(&home).join(".cache")))
            .map(|base| base.join("openmcp"))
    });
    cache
        .unwrap_or_else(|| PathBuf::from(".cache/openmcp"))
        .join("assets")
}

fn answers(program: &str, argument: &str) -> bool {
    Command::new(program)
        .arg(argument)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}
