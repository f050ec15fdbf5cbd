//! `docs/known-faults.md` names a test for each known fault: each of them exists.
#![allow(clippy::unwrap_used)]
use std::{collections::BTreeSet, fs, path::Path};

/// The known faults are numbered from 1 to this.
const LAST: u32 = 29;
/// Those that must have a test.
const REQUIRED: [u32; 20] = [
    1, 2, 3, 4, 5, 6, 10, 13, 15, 16, 18, 19, 20, 21, 22, 23, 26, 27, 28, 29,
];

#[test]
fn every_test_that_stands_for_a_known_fault_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let text = fs::read_to_string(root.join("docs/known-faults.md")).unwrap();
    let mut covered = BTreeSet::new();
    let mut wrong = Vec::new();
    for (number, tests) in text.lines().filter_map(row) {
        covered.insert(number);
        let mut source = String::new();
        let mut named = 0;
        for word in tests {
            if word.ends_with(".rs") {
                source = fs::read_to_string(root.join(word)).unwrap_or_default();
            } else {
                named += 1;
                if !has_test(&source, word) {
                    wrong.push(format!("{number}: {word}"));
                }
            }
        }
        if named == 0 {
            wrong.push(format!("{number}: no test is named"));
        }
    }
    assert!(wrong.is_empty(), "no such tests: {wrong:#?}");
    let missing: Vec<_> = REQUIRED
        .iter()
        .filter(|number| !covered.contains(number))
        .collect();
    assert!(missing.is_empty(), "no row for {missing:?}");
    let open = open(&text);
    let unsaid: Vec<_> = (1..=LAST)
        .filter(|number| covered.contains(number) == open.contains(number))
        .collect();
    assert!(
        unsaid.is_empty(),
        "neither a row nor said to have no test, or both: {unsaid:?}"
    );
}

#[test]
fn a_name_without_a_test_is_found_out() {
    let source = "#[test]\nfn one() {}\nfn two() {}\n#[tokio::test]\n#[ignore]\nasync fn three() {}\nscenes! {\n    four\n}\nasync fn four(";
    assert!(has_test(source, "one") && has_test(source, "three") && has_test(source, "four"));
    assert!(!has_test(source, "two") && !has_test(source, "five") && !has_test("", "one"));
}

/// Number and backticked words of the third column.
fn row(line: &str) -> Option<(u32, Vec<&str>)> {
    let mut cells = line.strip_prefix('|')?.split('|');
    let number = cells.next()?.trim().parse().ok()?;
    let tests = cells.nth(1)?;
    Some((number, tests.split('`').skip(1).step_by(2).collect()))
}

fn open(text: &str) -> BTreeSet<u32> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("Without a test of their own so far: "));
    let numbers = line.unwrap_or_default().trim_end_matches('.').split(", ");
    numbers.filter_map(|number| number.parse().ok()).collect()
}

/// Whether `source` has a test of that name, or a function that a test lists as one of its scenes.
fn has_test(source: &str, name: &str) -> bool {
    let lines: Vec<&str> = source.lines().map(str::trim).collect();
    let head = format!("fn {name}(");
    let Some(at) = lines
        .iter()
        .position(|line| line.strip_prefix("async ").unwrap_or(line).starts_with(&head))
    else {
        return false;
    };
    let mut attributes = lines[..at].iter().rev().take_while(|line| line.starts_with("#["));
    attributes.any(|line| line.starts_with("#[test]") || line.starts_with("#[tokio::test"))
        || lines.contains(&name)
}
