//! Provider code, kept from doing harm: a panic in it is a fault of one object, and so is a call that does not return.
//!
//! It runs on threads of its own. A call that does not return cannot be ended; its object is left alone until it does,
//! so that it costs one thread and no more.
use openmcp_reconcile::{Environment, Key};
use std::{
    any::Any,
    collections::HashSet,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// A pure function takes microseconds.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Broken {
    #[error("the provider panicked in {0}(): {1}; nothing was changed, please report it to its authors")]
    Panicked(&'static str, String),
    #[error(
        "the provider does not return from {0}(): nothing is changed until it does, please report it to its authors"
    )]
    Stuck(&'static str),
}

/// The objects for which provider code is called and has not returned in time. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Contained {
    stuck: Arc<Mutex<HashSet<Key>>>,
    /// No threads: when two of them end is nothing that a seed decides.
    in_place: bool,
}

impl Contained {
    pub(crate) fn within(environment: &Environment) -> Self {
        Self {
            stuck: Arc::default(),
            in_place: environment.is_simulated(),
        }
    }

    fn stuck<T>(&self, with: impl FnOnce(&mut HashSet<Key>) -> T) -> T {
        with(&mut self.stuck.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Calls `code`, the provider's `function`, for one object.
    pub(crate) async fn call<T: Send + 'static>(
        &self,
        key: &Key,
        function: &'static str,
        code: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Broken> {
        if self.stuck(|stuck| stuck.contains(key)) {
            return Err(Broken::Stuck(function));
        }
        // What the provider leaves half done it built itself, and it is dropped.
        let code = move || catch_unwind(AssertUnwindSafe(code));
        if self.in_place {
            return code().map_err(|panic| Broken::Panicked(function, text_of(&*panic)));
        }
        let mut called = tokio::task::spawn_blocking(code);
        match tokio::time::timeout(PATIENCE, &mut called).await {
            Ok(Ok(Ok(answer))) => Ok(answer),
            Ok(Ok(Err(panic))) => Err(Broken::Panicked(function, text_of(&*panic))),
            Ok(Err(ended)) => Err(Broken::Panicked(function, ended.to_string())),
            Err(_elapsed) => {
                self.stuck(|stuck| stuck.insert(key.clone()));
                let (contained, key) = (self.clone(), key.clone());
                tokio::spawn(async move {
                    drop(called.await);
                    contained.stuck(|stuck| stuck.remove(&key));
                });
                Err(Broken::Stuck(function))
            }
        }
    }
}

/// The message of a panic, which is a text in all usual cases.
fn text_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;
    use std::sync::mpsc;

    fn key(name: &str) -> Key {
        Key::new("X", "a", name)
    }

    #[tokio::test]
    async fn a_panic_is_told_in_its_own_words() {
        let broken = Contained::default()
            .call(&key("x"), "desired", || panic!("as told"))
            .await;
        let text = broken.map(|(): ()| ()).unwrap_err().to_string();
        assert!(text.contains("desired(): as told"), "{text}");
    }

    #[tokio::test]
    async fn a_call_that_does_not_return_holds_its_own_object_only_and_is_not_made_twice() {
        let (contained, (release, held)) = (Contained::default(), mpsc::channel::<()>());
        let waits = move || held.recv().is_ok();
        let stuck = contained.call(&key("x"), "desired", waits).await.unwrap_err();
        assert!(matches!(stuck, Broken::Stuck("desired")), "{stuck}");
        assert_eq!(contained.call(&key("y"), "desired", || 1).await.unwrap(), 1);
        let again = contained
            .call(&key("x"), "desired", || panic!("called twice"))
            .await;
        assert!(matches!(again.map(|(): ()| ()), Err(Broken::Stuck(_))));
        release.send(()).unwrap();
        while contained.call(&key("x"), "desired", || ()).await.is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}
