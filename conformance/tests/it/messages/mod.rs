//! What the clients print when they are refused, word for word.
//!
//! Each client tries every situation against real servers; what it prints is compared with `fixtures/messages/CLIENT.txt`, from
//! which `docs/troubleshooting.md` is made. `HYTHE_REWRITE=1` writes both again.

mod client;
mod page;
mod recorded;
mod situation;

use client::Client;
use recorded::Recorded;
use situation::World;

/// Runs every situation and compares, or records.
async fn holds(client: Client<'_>, world: &World) {
    let mut seen = Recorded::default();
    for attempt in world.attempts().await {
        let _kept_busy = world.prepare(&attempt).await;
        let Some(run) = client.run(&attempt).await else { continue };
        let shown = format!("{}: {}, {}", client.name(), attempt.situation, attempt.verb.as_str());
        let ended = run.end().await;
        assert!(!ended.success, "{shown} succeeded\n{}", ended.all());
        let printed = if ended.stderr.trim().is_empty() { ended.stdout } else { ended.stderr };
        seen.add(attempt.situation, attempt.verb.as_str(), &world.normal(&printed));
    }
    seen.compare(client.name());
}

#[tokio::test]
async fn docker_prints_what_is_recorded() {
    let world = World::start().await;
    let daemon = crate::clients::docker::Daemon::start(&world.main).await;
    holds(Client::docker(&world, &daemon).await, &world).await;
}

#[tokio::test]
async fn containerd_prints_what_is_recorded() {
    let world = World::start().await;
    let daemon = crate::clients::containerd::Daemon::start(&world.main).await;
    holds(Client::containerd(&world, &daemon).await, &world).await;
}

#[tokio::test]
async fn podman_prints_what_is_recorded() {
    let world = World::start().await;
    holds(Client::podman(&world).await, &world).await;
}

#[tokio::test]
async fn skopeo_prints_what_is_recorded() {
    let world = World::start().await;
    holds(Client::skopeo(&world), &world).await;
}

#[tokio::test]
async fn crane_prints_what_is_recorded() {
    let world = World::start().await;
    holds(Client::crane(&world), &world).await;
}

#[tokio::test]
async fn helm_prints_what_is_recorded() {
    let world = World::start().await;
    holds(Client::helm(&world), &world).await;
}

#[tokio::test]
async fn oras_go_prints_what_is_recorded() {
    let world = World::start().await;
    holds(Client::oras_go(&world), &world).await;
}

#[tokio::test]
async fn oras_python_prints_what_is_recorded() {
    let world = World::start().await;
    holds(Client::oras_python(&world), &world).await;
}
