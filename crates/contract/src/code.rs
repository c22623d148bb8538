//! Creation code to deploy, and whether the code found at an address is ours.

use std::{collections::BTreeMap, ops::Range, sync::LazyLock};

use alloy::primitives::{Address, Bytes, hex};
use alloy::sol_types::SolConstructor;
use serde_json::Value;

use crate::{Barcode, Windlass};

/// Creation code of `Windlass`, without its constructor argument; see [`Windlass::constructorCall`].
pub static WINDLASS_CREATION_CODE: &Bytes = &Windlass::BYTECODE;

/// Creation code of `Barcode`, complete: its constructor takes nothing.
pub static BARCODE_CREATION_CODE: &Bytes = &Barcode::BYTECODE;

static WINDLASS: LazyLock<Option<Template>> =
    LazyLock::new(|| Template::read(include_str!("../../../contracts/artifacts/Windlass.json")));
static BARCODE: LazyLock<Option<Template>> =
    LazyLock::new(|| Template::read(include_str!("../../../contracts/artifacts/Barcode.json")));

/// Whether `deployed` is the `Windlass` of this build, whatever its immutables hold.
///
/// The immutables cache the EIP-712 domain (chain id, own address); everything else must be equal.
pub fn is_windlass_code(deployed: &[u8]) -> bool {
    WINDLASS.as_ref().is_some_and(|template| template.matches(deployed))
}

/// Whether `deployed` is the `Barcode` of this build, whatever its owner and creation time.
pub fn is_barcode_code(deployed: &[u8]) -> bool {
    BARCODE.as_ref().is_some_and(|template| template.matches(deployed))
}

impl Windlass::constructorCall {
    /// The whole data of the creating transaction: creation code, then the owner.
    pub fn creation_data(owner: Address) -> Bytes {
        let argument = Self { initialOwner: owner }.abi_encode();
        [WINDLASS_CREATION_CODE.as_ref(), &argument].concat().into()
    }
}

/// Deployed code with holes where the constructor writes immutables.
struct Template {
    code: Vec<u8>,
    holes: Vec<Range<usize>>,
}

impl Template {
    /// Reads `deployedBytecode` of an artifact; `None` when it is not one. A test reads the committed ones.
    fn read(artifact: &str) -> Option<Self> {
        let artifact: Value = serde_json::from_str(artifact).ok()?;
        let deployed = artifact.get("deployedBytecode")?;
        let code = hex::decode(deployed.get("object")?.as_str()?).ok()?;
        let references: BTreeMap<String, Vec<BTreeMap<String, usize>>> =
            serde_json::from_value(deployed.get("immutableReferences")?.clone()).ok()?;
        let holes = references
            .values()
            .flatten()
            .map(|hole| hole.get("start").zip(hole.get("length")).map(|(start, length)| *start..start + length))
            .collect::<Option<Vec<_>>>()?;
        (!code.is_empty() && holes.iter().all(|hole| hole.end <= code.len())).then_some(Self { code, holes })
    }

    fn matches(&self, deployed: &[u8]) -> bool {
        self.code.len() == deployed.len() && self.masked(&self.code) == self.masked(deployed)
    }

    fn masked(&self, code: &[u8]) -> Vec<u8> {
        let mut code = code.to_vec();
        for hole in &self.holes {
            if let Some(hole) = code.get_mut(hole.clone()) {
                hole.fill(0);
            }
        }
        code
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_with_other_immutables_is_ours_and_any_other_change_is_not() {
        for (template, is_ours) in [(&WINDLASS, is_windlass_code as fn(&[u8]) -> bool), (&BARCODE, is_barcode_code)] {
            let template = template.as_ref().unwrap();
            assert!(!template.holes.is_empty());
            let mut deployed = template.code.clone();
            for hole in template.holes.clone() {
                deployed[hole].fill(0xab);
            }
            assert!(is_ours(&deployed));
            let outside = (0..deployed.len()).find(|i| !template.holes.iter().any(|hole| hole.contains(i))).unwrap();
            deployed[outside] ^= 1;
            assert!(!is_ours(&deployed));
            assert!(!is_ours(&template.code[1..]));
            assert!(!is_ours(&[]));
        }
        assert!(!is_windlass_code(&BARCODE.as_ref().unwrap().code));
    }

    #[test]
    fn creation_data_is_the_code_and_the_owner() {
        let owner = Address::repeat_byte(0x11);
        let data = Windlass::constructorCall::creation_data(owner);
        assert!(data.starts_with(WINDLASS_CREATION_CODE));
        assert_eq!(data.len(), WINDLASS_CREATION_CODE.len() + 32);
        assert_eq!(&data[data.len() - 20..], owner.as_slice());
        assert!(BARCODE_CREATION_CODE.len() > 100);
    }
}
