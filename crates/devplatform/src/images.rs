//! Image → binary: what the process node runs in place of container images.
use crate::{
    assets::{Assets, Tool, is_program},
    prerequisites::own_program,
    state::write_private,
};
use anyhow::{Context, bail};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// The platform operator.
pub(crate) const OPERATOR_IMAGE: &str = "openmcp/operator:dev";
/// The provider of hosted clusters.
pub(crate) const CLUSTER_PROVIDER_IMAGE: &str = "openmcp/cluster-provider-hosted:dev";

/// Images of this repository: built by `cargo build --workspace`, found beside the running program. The last
/// field says whether the platform itself needs it.
const OWN: [(&str, &str, bool); 3] = [
    (OPERATOR_IMAGE, "openmcp-operator", true),
    (CLUSTER_PROVIDER_IMAGE, "cluster-provider-hosted", true),
    ("openmcp/service-provider-kro:dev", "service-provider-kro", false),
];

/// The map that the node reads.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Images(BTreeMap<String, PathBuf>);

impl Images {
    /// Images of control planes and of what has been built beside them, this repository's own, a shell for
    /// experiments, and what the command line adds. With `complete`, a binary that the platform needs and that is
    /// not there is an error that says how to build it.
    pub(crate) fn collect(
        assets: &Assets,
        extra: &[(String, PathBuf)],
        complete: bool,
    ) -> anyhow::Result<Self> {
        let program = own_program()?;
        let beside = program.parent().unwrap_or(Path::new("/")).to_owned();
        let mut images = BTreeMap::from([("openmcp/shell:dev".to_owned(), PathBuf::from("/bin/sh"))]);
        for tool in [Tool::KubeApiserver, Tool::KubeControllerManager, Tool::Kro] {
            let image = format!("openmcp/{}:{}", tool.binary(), tool.version());
            images.extend(assets.find(tool).map(|path| (image, path)));
        }
        for (image, path) in extra {
            let path = fs::canonicalize(path)
                .with_context(|| format!("the binary {} of image {image} is not there", path.display()))?;
            if !is_program(&path) {
                bail!(
                    "{} of image {image} cannot be executed: it must be a binary",
                    path.display()
                );
            }
            images.insert(image.clone(), path);
        }
        for (image, binary, needed) in OWN {
            let path = beside.join(binary);
            if images.contains_key(image) {
                continue;
            }
            if path.is_file() {
                images.insert(image.to_owned(), path);
            } else if needed && complete {
                bail!(
                    "{} is not there: `cargo build --workspace` builds it",
                    path.display()
                );
            }
        }
        Ok(Self(images))
    }

    /// The binary of an image.
    pub(crate) fn binary(&self, image: &str) -> Option<&Path> {
        self.0.get(image).map(PathBuf::as_path)
    }

    /// Writes the map for the node. What an earlier `--image` added stays while its binary does.
    pub(crate) fn write(&self, path: &Path) -> anyhow::Result<()> {
        let earlier = fs::read(path)
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let mut all: BTreeMap<String, PathBuf> = earlier.unwrap_or_default();
        all.retain(|_, binary| binary.is_file());
        all.extend(self.0.clone());
        write_private(path, &serde_json::to_vec_pretty(&all)?)
    }
}

/// `--image NAME=PATH`.
pub(crate) fn parse_image(text: &str) -> anyhow::Result<(String, PathBuf)> {
    match text.split_once('=') {
        Some((name, path)) if !name.is_empty() && !path.is_empty() => {
            Ok((name.to_owned(), PathBuf::from(path)))
        }
        _ => bail!("an image is given as NAME=PATH, such as example/provider:dev=target/debug/provider"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn an_image_of_the_command_line_wins_and_must_be_a_program() {
        let folder = tempfile::tempdir().unwrap();
        let binary = folder.path().join("operator");
        fs::write(&binary, "").unwrap();
        let assets = Assets::for_tests(folder.path());
        let given = parse_image(&format!("{OPERATOR_IMAGE}={}", binary.display())).unwrap();
        let refused = Images::collect(&assets, std::slice::from_ref(&given), false).unwrap_err();
        assert!(refused.to_string().contains("cannot be executed"), "{refused}");
        fs::set_permissions(&binary, fs::Permissions::from_mode(0o755)).unwrap();
        let images = Images::collect(&assets, &[given], false).unwrap();
        assert_eq!(
            images.binary(OPERATOR_IMAGE),
            Some(fs::canonicalize(&binary).unwrap().as_path())
        );
        assert_eq!(images.binary("openmcp/kube-apiserver:v1.36.3"), None, "not built");
        let missing = parse_image("x=/nowhere/x").unwrap();
        let message = Images::collect(&assets, &[missing], false)
            .unwrap_err()
            .to_string();
        assert!(
            message.contains("/nowhere/x") && message.contains("image x"),
            "{message}"
        );
    }

    #[test]
    fn a_missing_binary_of_the_platform_names_the_command_that_builds_it() {
        let folder = tempfile::tempdir().unwrap();
        // The tests' own executable lies in target/debug/deps, where no binary of the workspace is.
        let message = Images::collect(&Assets::for_tests(folder.path()), &[], true)
            .unwrap_err()
            .to_string();
        assert!(
            message.contains("openmcp-operator") && message.contains("cargo build --workspace"),
            "{message}"
        );
    }

    #[test]
    fn what_an_earlier_start_added_stays_while_its_binary_does() {
        let folder = tempfile::tempdir().unwrap();
        let map = folder.path().join("images.json");
        let binary = folder.path().join("binary");
        fs::write(&binary, "").unwrap();
        Images(BTreeMap::from([("mine".to_owned(), binary.clone())]))
            .write(&map)
            .unwrap();
        Images(BTreeMap::from([("shell".to_owned(), PathBuf::from("/bin/sh"))]))
            .write(&map)
            .unwrap();
        let read = || serde_json::from_slice::<BTreeMap<String, PathBuf>>(&fs::read(&map).unwrap()).unwrap();
        assert_eq!(read().keys().collect::<Vec<_>>(), ["mine", "shell"]);
        fs::remove_file(&binary).unwrap();
        Images::default().write(&map).unwrap();
        assert_eq!(read().keys().collect::<Vec<_>>(), ["shell"]);
    }

    #[test]
    fn an_image_needs_a_name_and_a_path() {
        assert!(parse_image("a=b").is_ok());
        for bad in ["a", "=b", "a="] {
            assert!(parse_image(bad).is_err());
        }
    }
}
