//! `make demo`: from an open cluster to a namespace that is born closed, played on a real Kubernetes.
//!
//! Everything that is printed was measured in this run. Exit 1 if anything is not as it must be.

mod stage;
mod story;

use std::process::ExitCode;

use stage::Stage;

#[tokio::main]
async fn main() -> ExitCode {
    let mut stage = Stage::new();
    match story::play(&mut stage).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            stage.failed(&error);
            ExitCode::FAILURE
        }
    }
}
