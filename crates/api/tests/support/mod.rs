//! The manifests under `tests/fixtures/<kind>`: `good-*.yaml` are stored, `bad-*.yaml` are refused.
//!
//! A file holds the manifests that are applied one after the other; one with a `status` is applied to the status
//! subresource too. The last step of a bad file fails with the text of its first line, `# expect: <text>`.
use std::{fs, path::Path};

use serde::Deserialize;
use serde_json::Value;

pub(crate) struct Fixture {
    /// `<kind>/<file>`.
    pub(crate) name: String,
    /// What the refusal says; `None` for a good one.
    pub(crate) expect: Option<String>,
    pub(crate) manifests: Vec<Value>,
}

impl Fixture {
    /// The kind's folder.
    pub(crate) fn folder(&self) -> &str {
        self.name.split('/').next().unwrap()
    }

    fn read(folder: &str, path: &Path) -> Self {
        let file = path.file_name().unwrap().to_str().unwrap();
        let text = fs::read_to_string(path).unwrap();
        let expect = text
            .lines()
            .next()
            .and_then(|it| it.strip_prefix("# expect: "))
            .map(str::to_owned);
        let name = format!("{folder}/{file}");
        match file.split_once('-') {
            Some(("good", _)) => assert!(expect.is_none(), "{name}: a good manifest is not refused"),
            Some(("bad", _)) => assert!(
                expect.is_some(),
                "{name}: its first line must be `# expect: <text>`"
            ),
            _ => panic!("{name}: must be called good-* or bad-*"),
        }
        let manifests = serde_yaml::Deserializer::from_str(&text)
            .map(|it| Value::deserialize(it).unwrap())
            .collect();
        Self {
            name,
            expect,
            manifests,
        }
    }
}

/// Every fixture, by name.
pub(crate) fn fixtures() -> Vec<Fixture> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let mut fixtures = Vec::new();
    for folder in fs::read_dir(&root).unwrap().map(Result::unwrap) {
        let kind = folder.file_name().into_string().unwrap();
        let files = fs::read_dir(folder.path()).unwrap().map(Result::unwrap);
        fixtures.extend(files.map(|it| Fixture::read(&kind, &it.path())));
    }
    fixtures.sort_by(|a, b| a.name.cmp(&b.name));
    fixtures
}
