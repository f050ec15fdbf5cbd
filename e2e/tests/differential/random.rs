//! Random requests of a few writers to a few objects: the same ones each time, and others by `OPENMCP_SEED=<number>`.
use crate::{
    pair::Pair,
    step::{JSON, MERGE, Step, apply, get, step},
};
use anyhow::{Context, Result};
use http::Method;
use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use serde_json::{Value, json};

/// A random object of few fields, so that writers meet.
fn random_spec(random: &mut StdRng) -> Value {
    let mut spec = json!({});
    let value = |random: &mut StdRng| json!(["1", "2", "3"].choose(random).unwrap());
    if random.random_bool(0.4) {
        spec["text"] = value(random);
    }
    if random.random_bool(0.3) {
        spec["size"] = json!(random.random_range(1..4));
    }
    for (list, names) in [("atoms", ["x", "y"]), ("tags", ["x", "y"])] {
        if random.random_bool(0.3) {
            let count = random.random_range(1..3);
            spec[list] = names[..count].to_vec().into();
        }
    }
    for map in ["map", "whole"] {
        if random.random_bool(0.4) {
            spec[map] = json!({["a", "b"].choose(random).unwrap().to_string(): value(random)});
        }
    }
    if random.random_bool(0.5) {
        let mut parts = Vec::new();
        for name in ["p", "q", "r"] {
            if random.random_bool(0.5) {
                let mut part = json!({"name": name});
                if random.random_bool(0.7) {
                    part["image"] = value(random);
                }
                parts.push(part);
            }
        }
        spec["parts"] = parts.into();
    }
    spec
}

fn random_step(pair: &Pair, random: &mut StdRng) -> Step {
    let name = *["x", "y"].choose(random).unwrap();
    let path = pair.widget(name);
    let manager = *["a", "b", "c"].choose(random).unwrap();
    let mut object = json!({"apiVersion": format!("{}/v1", pair.group), "kind": "Widget", "metadata": {"name": name}, "spec": random_spec(random)});
    if random.random_bool(0.2) {
        object["metadata"]["labels"] = json!({"l": manager});
    }
    match random.random_range(0..20) {
        0..=7 => {
            if random.random_bool(0.2) {
                object["metadata"]["uid"] = json!("$uid");
            }
            apply(&path, manager, random.random_bool(0.6), object)
        }
        8..=10 => step(
            Method::PATCH,
            &format!("{path}?fieldManager={manager}"),
            MERGE,
            json!({"spec": random_spec(random)}),
        ),
        11 => step(
            Method::PATCH,
            &path,
            MERGE,
            json!({"spec": {"parts": null, "text": null, "map": null}}),
        ),
        12..=13 => {
            object["metadata"]["resourceVersion"] = json!(["$rv", "1"].choose(random).unwrap());
            step(
                Method::PUT,
                &format!("{path}?fieldManager={manager}"),
                JSON,
                object,
            )
        }
        14 => step(
            Method::PATCH,
            &format!("{path}/status?fieldManager={manager}"),
            MERGE,
            json!({"status": {"phase": manager}}),
        ),
        15 => step(
            Method::POST,
            path.trim_end_matches(&format!("/{name}")),
            JSON,
            object,
        ),
        16 => step(
            Method::DELETE,
            &path,
            JSON,
            json!({"preconditions": {"uid": "$uid"}}),
        ),
        17 => step(
            Method::PATCH,
            &path,
            MERGE,
            json!({"metadata": {"finalizers": [format!("example.com/{manager}")]}}),
        ),
        18 => step(
            Method::PATCH,
            &path,
            MERGE,
            json!({"metadata": {"finalizers": null}}),
        ),
        _ => get(&path),
    }
}

/// The first one found that the order of merged lists differed.
const SEEDS: [u64; 3] = [12_056_390_054_826_137_914, 1, 2];

#[tokio::test]
async fn random_requests_are_answered_alike() -> Result<()> {
    let seeds = match std::env::var("OPENMCP_SEED") {
        Ok(seed) => vec![seed.parse()?],
        Err(_) => SEEDS.to_vec(),
    };
    for seed in seeds {
        let mut random = StdRng::seed_from_u64(seed);
        let mut pair = Pair::new("random").await?;
        for number in 0..400 {
            let step = random_step(&pair, &mut random);
            pair.both(&step)
                .await
                .with_context(|| format!("OPENMCP_SEED={seed}, request {number}"))?;
        }
        pair.gone().await?;
    }
    Ok(())
}
