//! Between SQLite's integers and blobs and the types of the journal.

use alloy::primitives::{Address, B256, Bytes};
use rusqlite::{Row, types::Type};
use windlass_reading::{DeviceId, Format, PublicKey, Settlement};

use crate::{End, Error};

pub(super) fn corrupt(what: &str) -> Error {
    Error::Corrupt(what.to_owned())
}

pub(super) fn bad(column: usize, what: &str) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, Type::Blob, what.to_owned().into())
}

pub(super) fn u64_at(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    row.get::<_, i64>(column)?.try_into().map_err(|_| bad(column, "a negative number"))
}

pub(super) fn opt_u64_at(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<u64>> {
    let value: Option<i64> = row.get(column)?;
    value.map(|v| v.try_into().map_err(|_| bad(column, "a negative number"))).transpose()
}

pub(super) fn hash_at(row: &Row<'_>, column: usize) -> rusqlite::Result<B256> {
    opt_hash_at(row, column)?.ok_or_else(|| bad(column, "no hash"))
}

pub(super) fn opt_hash_at(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<B256>> {
    let blob: Option<Vec<u8>> = row.get(column)?;
    blob.map(|b| B256::try_from(b.as_slice()).map_err(|_| bad(column, "not 32 bytes"))).transpose()
}

pub(super) fn opt_address_at(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<Address>> {
    let blob: Option<Vec<u8>> = row.get(column)?;
    blob.map(|b| Address::try_from(b.as_slice()).map_err(|_| bad(column, "not 20 bytes"))).transpose()
}

pub(super) fn address_at(row: &Row<'_>, column: usize) -> rusqlite::Result<Address> {
    opt_address_at(row, column)?.ok_or_else(|| bad(column, "no address"))
}

pub(super) fn device_at(row: &Row<'_>, column: usize) -> rusqlite::Result<DeviceId> {
    let name: String = row.get(column)?;
    DeviceId::new(&name).map_err(|_| bad(column, "not a device id"))
}

pub(super) fn settlement_at(row: &Row<'_>, column: usize) -> rusqlite::Result<Settlement> {
    let name: String = row.get(column)?;
    name.parse().map_err(|_| bad(column, "not a settlement"))
}

pub(super) fn format_at(row: &Row<'_>, column: usize) -> rusqlite::Result<Format> {
    let name: String = row.get(column)?;
    Format::ALL.into_iter().find(|f| f.as_str() == name).ok_or_else(|| bad(column, "not a format"))
}

pub(super) fn opt_key_at(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<PublicKey>> {
    let blob: Option<Vec<u8>> = row.get(column)?;
    blob.map(|b| PublicKey::from_bytes(&b).map_err(|_| bad(column, "not a public key"))).transpose()
}

pub(super) fn key_at(row: &Row<'_>, column: usize) -> rusqlite::Result<PublicKey> {
    opt_key_at(row, column)?.ok_or_else(|| bad(column, "no public key"))
}

pub(super) fn opt_bytes_at(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<Bytes>> {
    Ok(row.get::<_, Option<Vec<u8>>>(column)?.map(Bytes::from))
}

pub(super) fn end_at(row: &Row<'_>, column: usize) -> rusqlite::Result<End> {
    match row.get(column)? {
        0 => Ok(End::None),
        1 => Ok(End::Revoked),
        2 => Ok(End::OnChain),
        _ => Err(bad(column, "not the end of a device")),
    }
}
