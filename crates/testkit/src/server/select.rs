//! Label and field selectors.
use super::answer::Refusal;
use serde_json::Value;

/// Which objects a list or watch shows.
#[derive(Debug, Clone, Default)]
pub(crate) struct Selector {
    labels: Vec<Term>,
    /// metadata.name and metadata.namespace, and selectable fields of custom kinds.
    fields: Vec<(String, String, bool)>,
}

#[derive(Debug, Clone)]
enum Term {
    In(String, Vec<String>, bool),
    Exists(String, bool),
}

impl Selector {
    pub(crate) fn parse(labels: &str, fields: &str) -> Result<Self, Refusal> {
        Ok(Self {
            labels: split(labels)
                .iter()
                .map(|term| label_term(term))
                .collect::<Result<_, _>>()?,
            fields: split(fields)
                .iter()
                .map(|term| field_term(term))
                .collect::<Result<_, _>>()?,
        })
    }

    pub(crate) fn matches(&self, object: &Value) -> bool {
        let label = |key: &str| object["metadata"]["labels"][key].as_str();
        let labels = self.labels.iter().all(|term| match term {
            Term::In(key, values, within) => {
                let found = label(key).is_some_and(|value| values.iter().any(|wanted| wanted == value));
                found == *within
            }
            Term::Exists(key, wanted) => label(key).is_some() == *wanted,
        });
        labels
            && self.fields.iter().all(|(path, value, equal)| {
                let pointer = format!("/{}", path.trim_start_matches('.').replace('.', "/"));
                let found = object
                    .pointer(&pointer)
                    .and_then(Value::as_str)
                    .unwrap_or_default();
                (found == value) == *equal
            })
    }
}

/// At commas outside of parentheses.
fn split(text: &str) -> Vec<String> {
    let (mut out, mut depth) = (vec![String::new()], 0);
    for c in text.chars() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            ',' if depth == 0 => {
                out.push(String::new());
                continue;
            }
            _ => {}
        }
        if let Some(last) = out.last_mut() {
            last.push(c);
        }
    }
    out.into_iter()
        .map(|term| term.trim().to_owned())
        .filter(|term| !term.is_empty())
        .collect()
}

fn label_term(term: &str) -> Result<Term, Refusal> {
    for (word, within) in [(" notin ", false), (" in ", true)] {
        if let Some((key, values)) = term.split_once(word) {
            let values = values.trim().trim_start_matches('(').trim_end_matches(')');
            let values = values.split(',').map(|value| value.trim().to_owned()).collect();
            return Ok(Term::In(key.trim().to_owned(), values, within));
        }
    }
    for (sign, within) in [("!=", false), ("==", true), ("=", true)] {
        if let Some((key, value)) = term.split_once(sign) {
            return Ok(Term::In(
                key.trim().to_owned(),
                vec![value.trim().to_owned()],
                within,
            ));
        }
    }
    match term.strip_prefix('!') {
        Some(key) => Ok(Term::Exists(key.trim().to_owned(), false)),
        None if term.contains(' ') => Err(Refusal::bad_request(format!(
            "unable to parse requirement: {term}"
        ))),
        None => Ok(Term::Exists(term.to_owned(), true)),
    }
}

fn field_term(term: &str) -> Result<(String, String, bool), Refusal> {
    for (sign, equal) in [("!=", false), ("==", true), ("=", true)] {
        if let Some((path, value)) = term.split_once(sign) {
            return Ok((path.to_owned(), value.to_owned(), equal));
        }
    }
    Err(Refusal::bad_request(format!(
        "invalid selector: {term:?}; can't understand {term:?}"
    )))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    #[test]
    fn selectors_select() {
        let object = json!({"metadata": {"name": "x", "labels": {"a": "1"}}});
        let matches = |labels, fields| Selector::parse(labels, fields).unwrap().matches(&object);
        assert!(matches("a=1,!b", "metadata.name=x"));
        assert!(matches("a in (1, 2),b notin (3)", ""));
        assert!(!matches("a!=1", ""));
        assert!(!matches("", "metadata.name!=x"));
        assert!(!matches("b", ""));
    }
}
