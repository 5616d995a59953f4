//! The embedded set: a private PostgreSQL and Redis from the machine's binaries, and one supervisor over them.
//!
//! With no `DATABASE_URL` and `REDIS_URL` the programs use these. One data directory has one set: whoever wants it
//! calls [`ensure_running`], which starts `ordinaut supervise` when nobody else has, and reads from its
//! [`SetState`] where everything listens. The set outlives the caller.
//!
//! The modules import downward only: `config_file` ← `layout` ← `account`, `directories`, `binaries`, `process` ← `launch` ←
//! `postgres`, `redis` ← `set`. What the supervisor does with them is in `cli/src/supervise.rs`; nothing here knows
//! of an executor or of MCP beyond their names in the state.

mod account;
mod binaries;
mod config_file;
mod directories;
mod error;
mod launch;
mod layout;
mod postgres;
mod process;
mod redis;
mod service;
mod set;
mod site;
mod state;

pub use account::Account;
pub use binaries::{PostgresBinaries, redis_server};
pub use config_file::ConfigFile;
pub use error::EmbeddedError;
pub use launch::{ENTER_SESSION, Launch, Session, enter_session, trim_logs};
pub use layout::{Environment, Layout};
pub use postgres::Postgres;
pub use process::Process;
pub use redis::Redis;
pub use service::{ServiceManager, ServiceScope, ServiceUnit, ServiceUnits};
pub use set::{EnsureRunning, SUPERVISE, SetLock, current, ensure_running, stop};
pub use site::{Durability, Site};
pub use state::{Phase, SetState};
