//! What has to be built, and about how long it takes: said before anything starts.
use std::{
    env,
    ffi::OsStr,
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

/// What neither cargo nor we can make, looked for before minutes of building.
fn prerequisites(sandbox: bool) -> Result<(), String> {
    if output("make", &["--version"]).is_none() {
        return Err("make is not installed, and a dependency (jemalloc) is built with it.\nInstall it with your package \
                    manager: `apt-get install make`, `dnf install make`."
            .to_owned());
    }
    // Root's is installed on the way.
    let root = output("id", &["-u"]).is_some_and(|id| id.trim() == "0");
    if sandbox && !root && output("bwrap", &["--version"]).is_none() {
        return Err(
            "bubblewrap (bwrap) is not installed, and the platform's pods run in it.\nInstall it with your \
                    package manager: `sudo apt-get install bubblewrap`, `sudo dnf install bubblewrap`."
                .to_owned(),
        );
    }
    Ok(())
}

/// Prints what is going to be built; fails if a tool that it needs is missing. `sandbox`: a platform is to be started.
pub(crate) fn announce(command: &str, sandbox: bool) -> Result<(), String> {
    tell(command)?;
    prerequisites(sandbox)
}

fn tell(command: &str) -> Result<(), String> {
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
    let go = output("go", &["version"]);
    let too_old = go
        .as_deref()
        .and_then(go_minor)
        .is_some_and(|minor| minor < GO_MINOR);
    if missing.iter().any(|part| part.from.starts_with("Go")) && !download && (go.is_none() || too_old) {
        let trouble = match &go {
            Some(version) => format!("{} is too old", version.trim()),
            None => "Go is not installed".to_owned(),
        };
        return Err(format!(
            "{trouble}, and {} is not in {}.\nInstall Go 1.{GO_MINOR} or newer, or name a folder with the \
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

/// Whether a Go-built binary is in a folder given by the environment or in the cache, as `openmcp` will decide it:
/// kubebuilder's are used only when their minor version is ours, and kro not without its definitions.
fn has(folder: &str, name: &str) -> bool {
    if name == "kro" && !assets().join(folder).join("crds").is_dir() {
        return false;
    }
    let given = |variable| env::var_os(variable).map(|given| Path::new(&given).join(name));
    let minor = folder
        .rsplit_once(['v', '.'])
        .map_or(folder, |(minor, _patch)| minor)
        .trim_start_matches(|c: char| !c.is_ascii_digit());
    let arguments: &[&str] = match name {
        "kubectl" => &["version", "--client"],
        _ => &["--version"],
    };
    let fits = |path: &PathBuf| {
        output(path, arguments).is_some_and(|version| version.contains(&format!("{minor}.")))
    };
    given("OPENMCP_ASSETS").is_some_and(|path| path.exists())
        || given("KUBEBUILDER_ASSETS")
            .filter(|path| path.exists())
            .is_some_and(|path| fits(&path))
        || assets().join(folder).join(name).exists()
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

/// What a program prints; `None` if it is not there or fails.
fn output(program: impl AsRef<OsStr>, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The oldest Go 1 that builds Kubernetes.
const GO_MINOR: u32 = 26;

/// 26 of `go version go1.26.1 linux/amd64`.
fn go_minor(version: &str) -> Option<u32> {
    let number = version.split_whitespace().nth(2)?.strip_prefix("go1.")?;
    number.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_minor_version_of_go_is_read_from_what_it_prints() {
        assert_eq!(go_minor("go version go1.26.1 linux/amd64"), Some(26));
        assert_eq!(go_minor("go version go1.27rc1 linux/arm64"), Some(27));
        assert_eq!(go_minor("go version devel"), None);
    }
}
