//! Parts of the documents that benches write.

use std::fs;

/// Puts `text`, which ends with a line's end, between the markers of this name in a document of `docs/`.
pub fn write_block(document: &str, name: &str, text: &str) {
    let path = format!("{}/../docs/{document}", env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(&path).unwrap();
    fs::write(&path, with_block(&page, name, text)).unwrap();
}

fn with_block(page: &str, name: &str, text: &str) -> String {
    let (begin, end) = (format!("<!-- {name}: begin -->\n"), format!("<!-- {name}: end -->"));
    let (before, rest) = page.split_once(&begin).unwrap_or_else(|| panic!("{begin} is not there"));
    let (_, after) = rest.split_once(&end).unwrap_or_else(|| panic!("{end} is not there"));
    format!("{before}{begin}{text}{end}{after}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_block_replaces_the_one_before_and_leaves_the_rest() {
        let page = "head\n<!-- soak: begin -->\nold\n<!-- soak: end -->\ntail\n";
        let once = with_block(page, "soak", "new\n");
        assert_eq!(once, page.replace("old", "new"));
        assert_eq!(with_block(&once, "soak", "new\n"), once);
    }
}
