//! Every test: the quick ones first, then the suites that need a platform, on one that is made for them.
use crate::{build, cargo, openmcp, plan, run};
use std::process::Command;

const PLATFORM: &str = "verify";

/// `cargo verify [--quick]`.
pub(crate) fn run_verify(options: &[String]) -> Result<(), String> {
    match options {
        [] => every_test(false),
        [one] if one == "--quick" => every_test(true),
        other => Err(format!(
            "cargo verify knows only --quick, not {}",
            other.join(" ")
        )),
    }
}

fn every_test(quick: bool) -> Result<(), String> {
    plan::announce("verify", !quick)?;
    run(cargo().args(["test", "--workspace"]))?;
    if quick {
        return Ok(());
    }
    // Traces are an optional feature with dependencies of its own.
    run(cargo().args([
        "test",
        "--workspace",
        "--features",
        "service-provider-runtime/telemetry",
        "--test",
        "telemetry",
    ]))?;
    build()?;
    let platform = Platform::up()?;
    let suites = run(cargo()
        .args([
            "test",
            "--workspace",
            // They take long: whoever waits for them wants to know everything that fails.
            "--no-fail-fast",
            // Neither simulations nor traces need a platform: they were tested before.
            "--exclude",
            "openmcp-testkit",
            "--exclude",
            "openmcp-reconcile",
            "--features",
            "openmcp-e2e/e2e",
            "--test",
            "*",
            // Its unit tests include one on a real API server.
            "--bin",
            "openmcp-operator",
            "--",
            "--include-ignored",
        ])
        // The suites share one platform and two cores: one scene at a time.
        .env("RUST_TEST_THREADS", "1")
        .env("OPENMCP_PLATFORM_NAME", PLATFORM)
        .env("OPENMCP_BIN", openmcp())
        .env("OPENMCP_KRO_CRDS", plan::assets().join("kro-v0.9.4/crds"))
        .env("OPENMCP_PLATFORM_KUBECONFIG", platform.kubeconfig()?));
    if suites.is_err() {
        eprintln!(
            "\nthe platform's logs: {} dev logs --name {PLATFORM}",
            openmcp().display()
        );
    }
    platform.down().and(suites)
}

/// The platform of one verification; ended also when a suite fails.
struct Platform;

impl Platform {
    fn up() -> Result<Self, String> {
        // What an earlier verification left behind when it was killed.
        run(Command::new(openmcp()).args(["dev", "down", "--name", PLATFORM]))?;
        let platform = Self;
        println!(
            "The suites' platform is {PLATFORM:?}. Interrupted, it stays: `{} dev down --name {PLATFORM}` ends it, and so does \
             the next `cargo verify`.",
            openmcp().display()
        );
        if let Err(error) = run(Command::new(openmcp()).args(["dev", "up", "--with-kro", "--name", PLATFORM]))
        {
            platform.down()?;
            return Err(error);
        }
        Ok(platform)
    }

    fn kubeconfig(&self) -> Result<String, String> {
        let output = Command::new(openmcp())
            .args(["dev", "kubeconfig", "--name", PLATFORM, "platform"])
            .output()
            .map_err(|error| format!("openmcp dev kubeconfig did not start: {error}"))?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_string())
    }

    fn down(self) -> Result<(), String> {
        run(Command::new(openmcp()).args(["dev", "down", "--name", PLATFORM]))
    }
}
