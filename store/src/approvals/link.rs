//! Links: whoever holds one may decide one approval, once.
//!
//! A link's token is 256 random bits; the database has its SHA-256 only. It is made for a person who asks on this
//! machine, and stands in nothing that an agent's tools answer.

use ordinaut_schema::id::{AgentId, ApprovalId};
use sha2::{Digest as _, Sha256};

use super::{Approval, find};
use crate::{Store, StoreError, connection::become_agent, error::Doing as _, unanswered::Within as _};

impl Store {
    /// Makes a link for an approval that waits; answers its token, which is told once. Role executor only.
    ///
    /// # Errors
    /// [`StoreError::ApprovalNotFound`]: there is none that waits.
    pub async fn link_approval(&self, id: ApprovalId) -> Result<String, StoreError> {
        let token = hex::encode(rand::random::<[u8; 32]>());
        let digest = Sha256::digest(token.as_bytes());
        let made = sqlx::query!(
            "
            insert into approval_link (token_sha256, approval_id)
            select $1, id
            from approval
            where id = $2
              and state = 'waiting'
              and expires_at > now()
            ",
            digest.as_slice(),
            id.uuid()
        )
        .execute(&self.pool)
        .within(self, "make a link for an approval")
        .await?;
        if made.rows_affected() == 1 { Ok(token) } else { Err(StoreError::ApprovalNotFound(id)) }
    }

    /// The approval that a link decides; `None` for a token that is none.
    pub async fn approval_of_link(&self, token: &str) -> Result<Option<Approval>, StoreError> {
        let digest = Sha256::digest(token.as_bytes());
        self.transaction("look up a link", move |mut tx| async move {
            let found = sqlx::query!(
                r#"select approval_id as "id!", agent_id as "agent!" from approval_of_link($1)"#,
                digest.as_slice()
            )
            .fetch_optional(&mut *tx)
            .await
            .doing("look up a link")?;
            let approval = match found {
                None => None,
                Some(found) => {
                    become_agent(&mut tx, AgentId::from_uuid(found.agent)).await?;
                    Some(find(&mut tx, ApprovalId::from_uuid(found.id)).await?)
                }
            };
            Ok((approval, tx))
        })
        .await
    }
}
