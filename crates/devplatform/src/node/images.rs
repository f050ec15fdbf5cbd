//! Images are names: a map image → binary, in a file that may change at any time.
use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// The map, read again at every question: nothing needs to be told when it changes.
pub(super) struct Images {
    file: PathBuf,
}

/// What an image stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Image {
    /// The binary that becomes `/entry`.
    pub(super) binary: PathBuf,
    /// Tells builds of the binary apart; the container status shows it.
    pub(super) id: String,
}

/// An image that cannot be run; the message says what to do.
#[derive(Debug, thiserror::Error)]
pub(super) enum ImageError {
    #[error("image {image:?} is not known to this node; known are: {known}. Add it to {file}")]
    Unknown {
        image: String,
        known: String,
        file: String,
    },
    #[error("image {image:?} stands for {binary}, which cannot be run: {problem}")]
    Unusable {
        image: String,
        binary: String,
        problem: String,
    },
    #[error("the image map {file} cannot be read: {problem}")]
    Map { file: String, problem: String },
}

impl Images {
    pub(super) fn new(file: PathBuf) -> Self {
        Self { file }
    }

    /// Looks an image up.
    pub(super) fn find(&self, image: &str) -> Result<Image, ImageError> {
        let known = self.read()?;
        let Some(binary) = known.get(image) else {
            return Err(ImageError::Unknown {
                image: image.to_owned(),
                known: known.keys().cloned().collect::<Vec<_>>().join(", "),
                file: self.file.display().to_string(),
            });
        };
        identify(binary).map_err(|problem| ImageError::Unusable {
            image: image.to_owned(),
            binary: binary.display().to_string(),
            problem,
        })
    }

    fn read(&self) -> Result<BTreeMap<String, PathBuf>, ImageError> {
        let failed = |problem: String| ImageError::Map {
            file: self.file.display().to_string(),
            problem,
        };
        let text = fs::read(&self.file).map_err(|error| failed(error.to_string()))?;
        serde_json::from_slice(&text).map_err(|error| failed(error.to_string()))
    }
}

fn identify(binary: &Path) -> Result<Image, String> {
    let binary = fs::canonicalize(binary).map_err(|error| error.to_string())?;
    let facts = fs::metadata(&binary).map_err(|error| error.to_string())?;
    if !facts.is_file() || facts.mode() & 0o111 == 0 {
        return Err("it is not an executable file".to_owned());
    }
    let id = format!(
        "process://{}@{}-{}",
        binary.display(),
        facts.mtime(),
        facts.size()
    );
    Ok(Image { binary, id })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_unknown_image_is_named_and_a_later_map_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("images.json");
        fs::write(&file, r#"{"shell:dev":"/bin/sh","gone:dev":"/no/such/file"}"#).unwrap();
        let images = Images::new(file.clone());
        assert!(images.find("shell:dev").unwrap().binary.is_absolute());
        let message = images.find("other:1").unwrap_err().to_string();
        assert!(
            message.contains("\"other:1\"") && message.contains("shell:dev"),
            "{message}"
        );
        assert!(
            images
                .find("gone:dev")
                .unwrap_err()
                .to_string()
                .contains("/no/such/file")
        );
        fs::write(&file, r#"{"other:1":"/bin/sh"}"#).unwrap();
        assert!(images.find("other:1").is_ok());
    }
}
