//! A provider whose author did not think of everything: of one order it never says what it wants, and of another it wants
//! what no API server takes. Only these orders say so.
use crate::{
    notes::{NoteSet, Notes, ProviderConfig, note},
    site::Site,
};
use anyhow::{Result, ensure};
use kube::{
    ResourceExt,
    api::{DeleteParams, ListParams},
};
use openmcp_e2e::{
    kinds::{self, api},
    wait,
};
use serde_json::json;
use service_provider_runtime::{Access, Desired, Inputs, Invalid, ServiceProvider};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

/// Less than an API server reads, and more than a ConfigMap may have.
const TOO_MUCH: usize = 1_600_000;
/// A ConfigMap may have so many long keys, but with what is noted of each there is no room for them in etcd.
const KEYS: usize = 4_000;
/// No condition is longer.
const BRIEF: usize = 2_048;

/// See the module.
struct Careless {
    returns: Arc<AtomicBool>,
}

impl ServiceProvider for Careless {
    type Api = NoteSet;
    type Config = ProviderConfig;

    fn access(&self) -> Access {
        Notes.access()
    }

    fn desired(&self, cx: &Inputs<'_, Self>) -> Result<Desired, Invalid> {
        let (set, mut desired) = (cx.object(), Desired::new());
        let name = set.name_any();
        while name == "stuck" && !self.returns.load(Ordering::Relaxed) {
            thread::sleep(Duration::from_millis(20));
        }
        for number in 0..set.spec.count {
            let mut note = note(&name, number, &set.spec.text);
            match &*name {
                "long" => note["data"]["text"] = "x".repeat(TOO_MUCH).into(),
                "large" => note["data"] = (0..KEYS).map(|nth| (format!("{nth:0>250}"), json!(""))).collect(),
                _ => {}
            }
            desired.mcp(note)?;
        }
        Ok(desired)
    }
}

/// Lets the provider return, also when the test fails: a runtime waits for its threads.
#[derive(Default)]
struct Returns(Arc<AtomicBool>);

impl Drop for Returns {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_of_which_the_provider_never_says_what_it_wants_says_so_and_goes_on_when_it_does()
-> Result<()> {
    let site = Site::new(None).await?;
    site.init::<Careless>("1").await?;
    let until = Returns::default();
    let careless = Careless {
        returns: until.0.clone(),
    };
    let provider = site.run_threaded(careless, "one").await?;
    site.order("stuck", 1).await?;
    site.order("other", 1).await?;
    let said = site.unready("stuck", "does not return from desired()").await?;
    ensure!(said["reason"] == "ProviderStuck", "{said}");
    site.told("stuck", &["does not return from desired()"]).await?;
    site.ready("other").await?;
    ensure!(warnings(&site, "other").await?.is_empty());
    site.is_repaired("other-0").await?;

    drop(until);
    site.order("stuck", 2).await?;
    site.ready("stuck").await?;
    for name in ["stuck", "other"] {
        site.orders().delete(name, &DeleteParams::default()).await?;
        wait::gone(&site.orders(), name).await?;
        ensure!(site.uids(name).await?.is_empty(), "{:?}", site.uids(name).await?);
    }
    provider.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_that_is_longer_than_its_kind_may_be_is_refused_in_a_few_words_on_its_order_only()
-> Result<()> {
    is_refused("long", "Rejected", "ConfigMap default/long-0").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_for_which_there_is_no_room_is_refused_in_a_few_words_on_its_order_only() -> Result<()> {
    is_refused("large", "ObjectTooLarge", "ConfigMap default/large-0").await
}

/// Only the order of this name says so, for this reason, and it can be deleted.
async fn is_refused(order: &str, reason: &str, text: &str) -> Result<()> {
    let site = Site::new(None).await?;
    site.init::<Careless>("1").await?;
    let returns = Arc::new(AtomicBool::new(true));
    let provider = site.run(Careless { returns }, "one", "1").await?;
    site.order(order, 1).await?;
    site.order("other", 1).await?;
    let said = site.unready(order, text).await?;
    ensure!(said["reason"] == reason, "{said}");
    let length = said["message"].as_str().unwrap_or_default().len();
    ensure!(length <= BRIEF, "it says {length} bytes");
    site.told(order, &[reason, text]).await?;
    site.ready("other").await?;
    ensure!(warnings(&site, "other").await?.is_empty());
    site.is_repaired("other-0").await?;

    site.orders().delete(order, &DeleteParams::default()).await?;
    wait::gone(&site.orders(), order).await?;
    provider.end().await
}

/// What Events of the kind Warning say about an order.
async fn warnings(site: &Site, order: &str) -> Result<Vec<String>> {
    let events = api(&site.home.client, &kinds::event(), crate::site::TENANT);
    let about = ListParams::default().fields(&format!("involvedObject.name={order},type=Warning"));
    let all = events.list(&about).await?.items;
    Ok(all.into_iter().map(|it| it.data["message"].to_string()).collect())
}
