//! Every test: the quick ones first, then the suites that need a platform, on one that is made for them.
use crate::{cargo, openmcp, plan, run};
use std::process::Command;

const PLATFORM: &str = "verify";
/// Traces are optional, the end-to-end suites hidden from who has no platform. Each step chooses the same features of
/// libraries: with others, many dependencies would be built once more.
const QUICK: [&str; 2] = ["--features", "service-provider-runtime/telemetry"];
const ALL: [&str; 2] = ["--features", "openmcp-e2e/e2e,service-provider-runtime/telemetry"];

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
    // Binaries and tests in one go: they share what their dependencies are built with.
    run(cargo().args(["build", "--workspace", "--all-targets"]).args(ALL))?;
    // The end-to-end suites need a platform.
    run(cargo()
        .args(["test", "--workspace", "--exclude", "openmcp-e2e"])
        .args(QUICK))?;
    if quick {
        return Ok(());
    }
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
            "--test",
            "*",
            // Its unit tests include one on a real API server.
            "--bin",
            "openmcp-operator",
        ])
        .args(ALL)
        .args(["--", "--include-ignored"])
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
