//! The programs, the Go modules that they come from, and how long each takes to build.
use std::time::Duration;

/// One program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tool {
    KubeApiserver,
    KubeControllerManager,
    KubeScheduler,
    Kubectl,
    Etcd,
    /// The operator that the example provider offers; its CRDs come with it.
    Kro,
}

/// Programs of one Go module: built with one go.mod, so that the dependencies of different tools do not collide.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Suite {
    Kubernetes,
    Etcd,
    Kro,
}

impl Tool {
    /// What a platform needs to start.
    pub(crate) const PLATFORM: [Self; 5] = [
        Self::Etcd,
        Self::KubeApiserver,
        Self::KubeControllerManager,
        Self::KubeScheduler,
        Self::Kubectl,
    ];

    /// The file's name.
    pub(crate) fn binary(self) -> &'static str {
        match self {
            Self::KubeApiserver => "kube-apiserver",
            Self::KubeControllerManager => "kube-controller-manager",
            Self::KubeScheduler => "kube-scheduler",
            Self::Kubectl => "kubectl",
            Self::Etcd => "etcd",
            Self::Kro => "kro",
        }
    }

    pub(super) fn suite(self) -> Suite {
        match self {
            Self::KubeApiserver | Self::KubeControllerManager | Self::KubeScheduler | Self::Kubectl => {
                Suite::Kubernetes
            }
            Self::Etcd => Suite::Etcd,
            Self::Kro => Suite::Kro,
        }
    }

    /// The version that is built, with a leading v.
    pub(crate) fn version(self) -> &'static str {
        self.suite().version()
    }

    /// The Go package with the program's `main`.
    pub(super) fn package(self) -> &'static str {
        match self {
            Self::KubeApiserver => "k8s.io/kubernetes/cmd/kube-apiserver",
            Self::KubeControllerManager => "k8s.io/kubernetes/cmd/kube-controller-manager",
            Self::KubeScheduler => "k8s.io/kubernetes/cmd/kube-scheduler",
            Self::Kubectl => "k8s.io/kubernetes/cmd/kubectl",
            Self::Etcd => "go.etcd.io/etcd/server/v3",
            Self::Kro => "github.com/kubernetes-sigs/kro/cmd/controller",
        }
    }

    /// Cold, on two cores, in the order of [`Tool::PLATFORM`]: the first of a suite pays for what it shares.
    pub(super) fn estimate(self) -> Duration {
        Duration::from_secs(match self {
            Self::KubeApiserver => 330,
            Self::KubeControllerManager => 84,
            Self::KubeScheduler => 7,
            Self::Kubectl => 34,
            Self::Etcd => 85,
            Self::Kro => 300,
        })
    }

    pub(super) fn version_args(self) -> &'static [&'static str] {
        match self {
            Self::Kubectl => &["version", "--client"],
            _ => &["--version"],
        }
    }

    /// What a program of the right minor version prints when asked.
    pub(super) fn minor_version(self) -> &'static str {
        match self.suite() {
            Suite::Kubernetes => "v1.36.",
            Suite::Etcd => "3.6.",
            Suite::Kro => "0.9.",
        }
    }
}

impl Suite {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Kubernetes => "kubernetes",
            Self::Etcd => "etcd",
            Self::Kro => "kro",
        }
    }

    pub(super) fn version(self) -> &'static str {
        match self {
            Self::Kubernetes => "v1.36.3",
            Self::Etcd => "v3.6.8",
            Self::Kro => "v0.9.4",
        }
    }

    /// go.mod and go.sum, as they lie in this repository's `tools` folder.
    pub(super) fn module(self) -> (&'static str, &'static str) {
        macro_rules! module {
            ($tool:literal) => {
                (
                    include_str!(concat!("../../../../tools/", $tool, "/go.mod")),
                    include_str!(concat!("../../../../tools/", $tool, "/go.sum")),
                )
            };
        }
        match self {
            Self::Kubernetes => module!("kubernetes"),
            Self::Etcd => module!("etcd"),
            Self::Kro => module!("kro"),
        }
    }

    /// A Kubernetes program that was not told its version says v0.0.0, and clients act on what it says.
    pub(super) fn ldflags(self) -> String {
        let strip = "-s -w";
        match self {
            Self::Kubernetes => {
                let version = self.version();
                let set = |package: &str| {
                    format!(
                        "-X {package}.gitVersion={version} -X {package}.gitMajor=1 -X {package}.gitMinor=36 \
                         -X {package}.gitTreeState=clean"
                    )
                };
                format!(
                    "{strip} {} {}",
                    set("k8s.io/component-base/version"),
                    set("k8s.io/client-go/pkg/version")
                )
            }
            Self::Etcd | Self::Kro => strip.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn each_module_requires_the_version_that_its_folder_in_the_cache_names() {
        for (suite, path) in [
            (Suite::Kubernetes, "k8s.io/kubernetes"),
            (Suite::Etcd, "go.etcd.io/etcd/server/v3"),
            (Suite::Kro, "github.com/kubernetes-sigs/kro"),
        ] {
            let (module, sums) = suite.module();
            let line = format!("{path} {}", suite.version());
            assert!(module.contains(&line), "go.mod has {line}");
            assert!(sums.contains(&line), "go.sum has {line}");
        }
    }

    #[test]
    fn each_module_names_the_packages_that_are_built_from_it() {
        for tool in [Tool::PLATFORM.as_slice(), &[Tool::Kro]].concat() {
            let (module, _) = tool.suite().module();
            assert!(
                module
                    .lines()
                    .any(|line| line.trim_start_matches("tool ").trim() == tool.package()),
                "{tool:?}"
            );
        }
    }
}
