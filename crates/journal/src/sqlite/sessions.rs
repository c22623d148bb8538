//! MQTT sessions that outlive the process.

use async_trait::async_trait;
use rusqlite::params;

use super::{
    Sqlite,
    convert::{corrupt, opt_u64_at},
};
use crate::{Error, SessionRow, Sessions};

#[async_trait]
impl Sessions for Sqlite {
    async fn sessions(&self) -> Result<Vec<SessionRow>, Error> {
        let rows = self
            .scan(|c| {
                let mut statement =
                    c.prepare("SELECT device, subscriptions, expiry_seconds, left_at FROM sessions ORDER BY device")?;
                let rows = statement.query_map([], |row| {
                    Ok((row.get(0)?, row.get::<_, String>(1)?, row.get(2)?, opt_u64_at(row, 3)?))
                })?;
                Ok(rows.collect::<Result<Vec<_>, _>>()?)
            })
            .await?;
        rows.into_iter()
            .map(|(device, subscriptions, expiry_seconds, left_at_ms)| {
                let subscriptions = serde_json::from_str(&subscriptions).map_err(|e| corrupt(&e.to_string()))?;
                Ok(SessionRow { device, subscriptions, expiry_seconds, left_at_ms })
            })
            .collect()
    }

    async fn keep_session(&self, session: SessionRow) -> Result<(), Error> {
        let subscriptions = serde_json::to_string(&session.subscriptions).map_err(|e| corrupt(&e.to_string()))?;
        self.write(move |c, _| {
            c.prepare_cached(
                "REPLACE INTO sessions (device, subscriptions, expiry_seconds, left_at) VALUES (?1, ?2, ?3, ?4)",
            )?
            .execute(params![
                session.device,
                subscriptions,
                session.expiry_seconds,
                session.left_at_ms.map(|ms| ms as i64),
            ])?;
            Ok(())
        })
        .await
    }

    async fn forget_sessions(&self, devices: Vec<String>) -> Result<(), Error> {
        self.write(move |c, _| {
            let mut statement = c.prepare_cached("DELETE FROM sessions WHERE device = ?1")?;
            for device in &devices {
                statement.execute([device])?;
            }
            Ok(())
        })
        .await
    }
}
