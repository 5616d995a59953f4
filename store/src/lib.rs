//! All of Ordinaut's SQL, and the embedded PostgreSQL and Redis.

pub mod embedded;
#[cfg(feature = "testing")]
pub mod testing;

/// Placeholder until the migrations are here.
pub async fn migrate(_database_url: &str) -> Result<(), std::convert::Infallible> {
    Ok(())
}
