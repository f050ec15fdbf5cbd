//! A folder whose files change all at once: the kubelet's `..data` link.
//!
//! The files live in a folder with a time in its name; `..data` points to it; each visible name is a link through
//! `..data`. Renaming a new `..data` over the old one changes all files in one step, and a process that has the
//! **folder** bound sees it.
use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    io::Write,
    os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink},
    path::{Component, Path, PathBuf},
};

/// A file's bytes and permission bits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct File {
    pub(super) bytes: Vec<u8>,
    pub(super) mode: u32,
}

/// Files by path relative to the volume.
pub(super) type Payload = BTreeMap<String, File>;

const DATA: &str = "..data";

/// Makes the folder hold exactly this payload. Writes nothing when it already does. Returns whether it wrote.
pub(super) fn replace(folder: &Path, payload: &Payload) -> io::Result<bool> {
    fs::create_dir_all(folder)?;
    let current = fs::read_link(folder.join(DATA)).ok();
    if let Some(current) = &current
        && holds(&folder.join(current), payload)
    {
        return Ok(false);
    }
    let fresh = tempfile::Builder::new()
        .prefix("..")
        .rand_bytes(10)
        .tempdir_in(folder)?
        .keep();
    fs::set_permissions(&fresh, fs::Permissions::from_mode(0o755))?;
    for (path, file) in payload {
        write(&fresh.join(checked(path)?), file)?;
    }
    let name = fresh
        .file_name()
        .ok_or_else(|| io::Error::other("a folder without a name"))?;
    let link = folder.join("..data_tmp");
    remove_if_there(&link)?;
    symlink(name, &link)?;
    fs::rename(&link, folder.join(DATA))?;
    expose(folder, payload)?;
    if let Some(old) = current {
        fs::remove_dir_all(folder.join(old))?;
    }
    Ok(true)
}

/// One visible link for each first path element; links to what is gone are removed.
fn expose(folder: &Path, payload: &Payload) -> io::Result<()> {
    let wanted: BTreeSet<&str> = payload
        .keys()
        .filter_map(|path| path.split('/').find(|part| !part.is_empty()))
        .collect();
    for name in &wanted {
        let link = folder.join(name);
        if fs::symlink_metadata(&link).is_err() {
            symlink(Path::new(DATA).join(name), &link)?;
        }
    }
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        let visible = name.to_str().is_some_and(|name| !name.starts_with(".."));
        if visible && !name.to_str().is_some_and(|name| wanted.contains(name)) {
            fs::remove_file(folder.join(&name))?;
        }
    }
    Ok(())
}

fn write(path: &Path, file: &File) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    let mut out = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    out.write_all(&file.bytes)?;
    out.set_permissions(fs::Permissions::from_mode(file.mode & 0o777))
}

fn holds(folder: &Path, payload: &Payload) -> bool {
    let same = |(path, file): (&String, &File)| {
        let at = folder.join(path);
        let mode = fs::metadata(&at).map(|facts| facts.permissions().mode() & 0o777);
        fs::read(&at).is_ok_and(|bytes| bytes == file.bytes)
            && mode.is_ok_and(|mode| mode == file.mode & 0o777)
    };
    payload.iter().all(same) && count(folder) == payload.len()
}

fn count(folder: &Path) -> usize {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.file_type() {
            Ok(kind) if kind.is_dir() => count(&entry.path()),
            _ => 1,
        })
        .sum()
}

/// The API server has checked the paths; this refuses to leave the volume all the same.
fn checked(path: &str) -> io::Result<PathBuf> {
    let path = Path::new(path);
    if path.components().all(|part| matches!(part, Component::Normal(_))) {
        Ok(path.to_owned())
    } else {
        Err(io::Error::other(format!("path {path:?} leaves the volume")))
    }
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn payload(files: &[(&str, &str)]) -> Payload {
        files
            .iter()
            .map(|(path, text)| {
                let file = File {
                    bytes: text.as_bytes().to_vec(),
                    mode: 0o644,
                };
                ((*path).to_owned(), file)
            })
            .collect()
    }

    fn visible(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names.retain(|name| !name.starts_with(".."));
        names
    }

    #[test]
    fn files_change_in_place_and_old_ones_go() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("volume");
        assert!(replace(&folder, &payload(&[("a", "1"), ("dir/b", "2")])).unwrap());
        assert_eq!(fs::read_to_string(folder.join("dir/b")).unwrap(), "2");
        assert!(replace(&folder, &payload(&[("a", "3"), ("c", "4")])).unwrap());
        assert_eq!(fs::read_to_string(folder.join("a")).unwrap(), "3");
        assert_eq!(visible(&folder), ["a", "c"]);
        assert_eq!(
            fs::read_dir(&folder).unwrap().count(),
            4,
            "one data folder, its link, two names"
        );
    }

    #[test]
    fn an_equal_payload_is_not_written_again() {
        let root = tempfile::tempdir().unwrap();
        replace(root.path(), &payload(&[("a", "1")])).unwrap();
        let before = fs::read_link(root.path().join(DATA)).unwrap();
        assert!(!replace(root.path(), &payload(&[("a", "1")])).unwrap());
        assert_eq!(fs::read_link(root.path().join(DATA)).unwrap(), before);
        assert!(replace(root.path(), &Payload::new()).unwrap());
        assert!(visible(root.path()).is_empty());
    }

    #[test]
    fn a_mode_is_set_and_a_change_of_mode_is_a_change() {
        let root = tempfile::tempdir().unwrap();
        let mut secret = payload(&[("key", "1")]);
        replace(root.path(), &secret).unwrap();
        secret.get_mut("key").unwrap().mode = 0o400;
        assert!(replace(root.path(), &secret).unwrap());
        let facts = fs::metadata(root.path().join("key")).unwrap();
        assert_eq!(facts.permissions().mode() & 0o777, 0o400);
    }

    #[test]
    fn a_path_that_leaves_the_volume_is_refused() {
        let root = tempfile::tempdir().unwrap();
        assert!(replace(root.path(), &payload(&[("../x", "1")])).is_err());
        assert!(replace(root.path(), &payload(&[("/x", "1")])).is_err());
    }
}
