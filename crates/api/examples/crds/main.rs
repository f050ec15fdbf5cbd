//! `cargo crds` writes `crds/*.yaml`, one file a CRD; `cargo crds --check` only says whether they are up to date.
mod files;

use std::{path::Path, process::ExitCode};

fn main() -> ExitCode {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../crds");
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let result = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => files::write(&folder),
        ["--check"] => files::check(&folder),
        _ => Err(format!(
            "usage: cargo crds [--check], not {}",
            arguments.join(" ")
        )),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::FAILURE
        }
    }
}
