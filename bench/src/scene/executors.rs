//! Real executors, as processes.

use std::{
    fs::File,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use tokio::time::sleep;

use super::Scene;
use crate::programs::{Running, free_port, programs};

const LOOK: Duration = Duration::from_millis(50);
const START_LIMIT: Duration = Duration::from_mins(1);

/// Executors at work, each with its log in a file.
pub(crate) struct Executors(Vec<Running>);

impl Executors {
    pub(crate) fn stop(self) {
        for executor in self.0 {
            executor.stop();
        }
    }

    pub(crate) fn ids(&self) -> impl Iterator<Item = u32> {
        self.0.iter().map(Running::id)
    }
}

impl Scene {
    /// Starts so many as people have them, and waits until they are at work.
    pub(crate) async fn executors(&self, count: u32) -> anyhow::Result<Executors> {
        self.executors_with(count, &[]).await
    }

    /// As [`Scene::executors`], with more in their environment.
    pub(crate) async fn executors_with(&self, count: u32, more: &[(&str, &str)]) -> anyhow::Result<Executors> {
        let known = self.number("select count(*) from executor").await?;
        let mut running = Vec::new();
        for n in 0..count {
            let log = self.directory.join(format!("executor-{n}.log"));
            let mut command = self.command("ordinaut-executor")?;
            command
                .env("ORDINAUT_EXECUTOR_LISTEN", format!("127.0.0.1:{}", free_port()?))
                .envs(more.iter().copied())
                .stderr(File::create(&log).with_context(|| format!("make {}", log.display()))?);
            running.push(Running::start(command)?);
        }
        let began = Instant::now();
        while self.number("select count(*) from executor").await? < known + f64::from(count) {
            if began.elapsed() > START_LIMIT {
                bail!("executors do not come up; see {}", self.directory.display());
            }
            sleep(LOOK).await;
        }
        // Past the first round of each of their services.
        sleep(Duration::from_millis(500)).await;
        Ok(Executors(running))
    }

    /// One of the programs, with this scene's stores.
    pub(crate) fn command(&self, program: &'static str) -> anyhow::Result<Command> {
        let mut command = Command::new(programs(&[program])?.join(program));
        command
            .current_dir(&self.directory)
            .env("DATABASE_URL", self.url())
            .env("REDIS_URL", self.redis_url())
            .env("ORDINAUT_CONFIG_DIR", &self.directory)
            .env("ORDINAUT_DATA_DIR", &self.directory);
        Ok(command)
    }
}
