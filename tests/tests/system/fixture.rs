//! What every whole-system test starts from.

use anyhow::Context;
use ringfence_tests::install;
use ringfence_tests::target::Target;
use tokio::sync::OnceCell;

/// Whether Ringfence was installed in this run of the tests.
static INSTALLED: OnceCell<()> = OnceCell::const_new();

/// A cluster with this checkout's Ringfence on it, and fresh namespaces for one test.
///
/// # Errors
/// If there is no cluster, it cannot be installed on, or the namespaces cannot be made.
pub async fn start(namespaces: &[&str]) -> anyhow::Result<Target> {
    let target = Target::connect().await?;
    INSTALLED
        .get_or_try_init(|| async {
            install::without_baselines(&target).await?;
            // While one part is worked on, it may run by hand, or the others be of another build.
            if std::env::var_os("RINGFENCE_TEST_AS_INSTALLED").is_some() {
                return Ok(());
            }
            install::install(&target).await
        })
        .await
        .context("Ringfence could not be installed")?;
    target.delete_namespaces(namespaces).await?;
    for namespace in namespaces {
        target.kubectl(&["create", "namespace", namespace]).await?;
    }
    Ok(target)
}
