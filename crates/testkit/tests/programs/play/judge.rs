//! What people want in the end, and whether it is so.
use super::{LIMIT, QUIET, Run, platform, two_tenants};
use crate::{
    act::{Act, TENANTS},
    common::{config, greeter, stage, staged},
};
use openmcp_testkit::{Ended, Job, PERSON, Process, World, children, oracle};
use serde_json::Value;
use std::{collections::BTreeMap, sync::Mutex};

const INVENTORY: (&str, &str) = ("runtime.openmcp.cloud/v1alpha1", "Inventory");

impl Run {
    /// The count that a tenant has ordered.
    pub(super) fn ordered(&self, tenant: &str) -> Option<i32> {
        let live = self.world.server("onboarding").live(&greeter(tenant, "one", 0))?;
        if !live["metadata"]["deletionTimestamp"].is_null() {
            return None;
        }
        live["spec"]["count"]
            .as_i64()
            .and_then(|count| i32::try_from(count).ok())
    }

    pub(super) fn configured(&self) -> (String, bool) {
        let live = self
            .world
            .server("platform")
            .live(&config(""))
            .unwrap_or_default();
        let text = live["spec"]["greeting"].as_str().unwrap_or_default();
        (text.to_owned(), live["spec"]["stage"].is_string())
    }

    pub(super) fn stage(&self) -> Option<String> {
        let live = self.world.server("platform").live(&stage(""))?;
        live["data"]["text"].as_str().map(str::to_owned)
    }

    fn wishes(&self) -> Wishes {
        Wishes {
            orders: TENANTS.map(|tenant| self.ordered(tenant)),
            config: self.configured(),
            stage: self.stage(),
        }
    }

    pub(super) fn judge(&mut self) {
        let expected = without_faults(&self.wishes());
        let found = End::of(&self.world, &mut self.process);
        self.wrong.extend(oracle::judge(&self.world));
        self.wrong.extend(oracle::differences(&expected.all, &found.all));
        if found.counts != expected.counts {
            self.wrong.push(format!(
                "I9: (tasks, watches) are {:?}, and {:?} without faults",
                found.counts, expected.counts
            ));
        }
    }

    /// I4, I5: nothing is left of what was ordered.
    pub(super) fn take_everything_back(&mut self) {
        for tenant in TENANTS {
            self.people(&Act::Withdraw(tenant));
        }
        self.rest();
        self.judge();
        let left = children(&self.world).len()
            + self
                .world
                .server("platform")
                .objects(INVENTORY.0, INVENTORY.1)
                .len();
        if left > 0 {
            self.wrong
                .push(format!("I4: {left} children and Inventories are left"));
        }
    }
}

/// What people want in the end.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Wishes {
    orders: [Option<i32>; 2],
    config: (String, bool),
    stage: Option<String>,
}

#[derive(Debug, Clone)]
struct End {
    all: BTreeMap<String, Value>,
    /// Tasks of the process, open watches.
    counts: (usize, usize),
}

impl End {
    fn of(world: &World, process: &mut Process) -> Self {
        Self {
            all: oracle::snapshot(world),
            counts: process.footprint(),
        }
    }
}

/// The end of the same wishes where nothing goes wrong.
fn without_faults(wishes: &Wishes) -> End {
    static KNOWN: Mutex<BTreeMap<Wishes, End>> = Mutex::new(BTreeMap::new());
    if let Some(known) = KNOWN.lock().unwrap().get(wishes) {
        return known.clone();
    }
    let world = platform();
    let (platform, onboarding) = (world.server("platform"), world.server("onboarding"));
    let (text, has_stage) = &wishes.config;
    let wanted = if *has_stage { staged(text) } else { config(text) };
    platform.apply(PERSON, &wanted).unwrap();
    if let Some(text) = &wishes.stage {
        platform.apply(PERSON, &stage(text)).unwrap();
    }
    for (tenant, count) in TENANTS.into_iter().zip(wishes.orders) {
        if let Some(count) = count {
            onboarding.apply(PERSON, &greeter(tenant, "one", count)).unwrap();
        }
    }
    let mut process = two_tenants().start(&world, Job::Run);
    assert_eq!(process.settle(QUIET, LIMIT), Ended::Reached);
    let end = End::of(&world, &mut process);
    KNOWN.lock().unwrap().insert(wishes.clone(), end.clone());
    end
}
