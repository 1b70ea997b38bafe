//! `exec`: a command that ends with 0, run as the replica's program was.

use std::fs::OpenOptions;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Signal, kill_process_group};
use tokio::time::timeout;

use crate::local::environment::{Variables, program};
use crate::local::keeper::{Keeper, StartError};
use crate::local::serials::Serials;
use crate::local::wire::{End, Start};

/// What commands of one replica need.
#[derive(Debug)]
pub(in crate::local) struct Commands {
    /// Starts them.
    pub(in crate::local) keeper: Keeper,
    /// Numbers them.
    pub(in crate::local) serials: Serials,
    /// The replica's variables.
    pub(in crate::local) variables: Arc<Variables>,
    /// The replica's working directory.
    pub(in crate::local) directory: Option<PathBuf>,
    /// The running program.
    pub(in crate::local) own: PathBuf,
}

impl Commands {
    /// Runs a command; killed with its group when it takes longer than `bound`.
    pub(in crate::local) async fn ask(
        &self,
        command: &[Arc<str>],
        bound: Duration,
    ) -> Result<(), String> {
        let found = program(command, &self.variables, self.directory.as_deref(), &self.own)?;
        let null = || OpenOptions::new().write(true).open("/dev/null").map(OwnedFd::from);
        let descriptors = [null(), null()]
            .into_iter()
            .collect::<std::io::Result<Vec<_>>>()
            .map_err(|error| format!("/dev/null: {error}"))?;
        let start = Start {
            serial: self.serials.next(),
            program: found.path,
            argv: found.argv,
            env: self.variables.list().to_vec(),
            directory: self.directory.clone(),
            cgroup: None,
        };
        let mut child = self.keeper.run(start, descriptors).await.map_err(|error| match error {
            StartError::Refused(error) => format!("the command cannot be started: {error}"),
            StartError::GuardLost => "the guard process ended".to_owned(),
        })?;
        let group = KillOnDrop(child.pid);
        // The caller's bound drops this future; both ways the group is killed.
        let ended = timeout(bound, &mut child.ended).await;
        drop(group);
        match ended {
            Ok(Ok(End::Status(0))) => Ok(()),
            Ok(Ok(end)) => Err(format!("the command ended with {end}")),
            Ok(Err(_lost)) => Err("the guard process ended".into()),
            Err(_elapsed) => Err(format!("the command ran longer than {} ms", bound.as_millis())),
        }
    }
}

struct KillOnDrop(rustix::process::Pid);

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        let _ = kill_process_group(self.0, Signal::KILL);
    }
}
