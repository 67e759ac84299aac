//! Country code <-> the index that a table's cells hold.
//!
//! The index of a code never changes: tables, policies and counters of an earlier daemon are still pinned when the
//! next one starts. So codes are only ever appended. 0 is "unknown", 255 is not a country
//! ([`mc_edge_common::geo::SEARCH`]).

use mc_edge_common::geo::{SEARCH, UNKNOWN};

use crate::spec::CountryCode;

/// Unknown, index 0.
pub const UNKNOWN_COUNTRY: CountryCode = CountryCode(*b"??");

/// Index 1 onwards: ISO 3166-1 alpha-2 of 2026, then what databases use besides: XK (Kosovo), EU and AP (a region, no
/// country). Append only.
const CODES: &str = "\
    AD AE AF AG AI AL AM AO AQ AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ \
    BL BM BN BO BQ BR BS BT BV BW BY BZ CA CC CD CF CG CH CI CK CL CM CN CO CR \
    CU CV CW CX CY CZ DE DJ DK DM DO DZ EC EE EG EH ER ES ET FI FJ FK FM FO FR \
    GA GB GD GE GF GG GH GI GL GM GN GP GQ GR GS GT GU GW GY HK HM HN HR HT HU \
    ID IE IL IM IN IO IQ IR IS IT JE JM JO JP KE KG KH KI KM KN KP KR KW KY KZ \
    LA LB LC LI LK LR LS LT LU LV LY MA MC MD ME MF MG MH MK ML MM MN MO MP MQ \
    MR MS MT MU MV MW MX MY MZ NA NC NE NF NG NI NL NO NP NR NU NZ OM PA PE PF \
    PG PH PK PL PM PN PR PS PT PW PY QA RE RO RS RU RW SA SB SC SD SE SG SH SI \
    SJ SK SL SM SN SO SR SS ST SV SX SY SZ TC TD TF TG TH TJ TK TL TM TN TO TR \
    TT TV TW TZ UA UG UM US UY UZ VA VC VE VG VI VN VU WF WS YE YT ZA ZM ZW \
    XK EU AP";

/// Countries in the table, without the unknown.
pub const COUNT: usize = (CODES.len() + 1) / 3;
const _: () = assert!(COUNT < SEARCH as usize);

/// Index by (first letter, second letter); [`UNKNOWN`] where there is no such country.
static INDEX: [[u8; 26]; 26] = {
    let codes = CODES.as_bytes();
    let mut index = [[UNKNOWN; 26]; 26];
    let mut i = 0;
    while i < COUNT {
        index[(codes[3 * i] - b'A') as usize][(codes[3 * i + 1] - b'A') as usize] = i as u8 + 1;
        i += 1;
    }
    index
};

/// The index of a country; `None` if it is not in the table. `??` is 0.
pub fn index(country: CountryCode) -> Option<u8> {
    if country == UNKNOWN_COUNTRY {
        return Some(UNKNOWN);
    }
    let [first, second] = country
        .0
        .map(|letter| usize::from(letter.wrapping_sub(b'A')));
    let index = *INDEX.get(first)?.get(second)?;
    (index != UNKNOWN).then_some(index)
}

/// The country of an index; `??` for 0 and for what is not in the table.
pub fn code(index: u8) -> CountryCode {
    let at = 3 * usize::from(index.wrapping_sub(1));
    match CODES.as_bytes().get(at..at + 2) {
        Some(&[first, second]) => CountryCode([first, second]),
        _ => UNKNOWN_COUNTRY,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_index_comes_back() {
        for i in 0..=COUNT as u8 {
            assert_eq!(index(code(i)), Some(i), "{:?}", code(i));
        }
        for i in COUNT as u8 + 1..=255 {
            assert_eq!(code(i), UNKNOWN_COUNTRY, "{i}");
        }
    }

    #[test]
    fn indices_are_pinned() {
        // Tables of earlier daemons hold these.
        for (name, expected) in [
            (b"AD", 1),
            (b"DE", 57),
            (b"ZW", 249),
            (b"XK", 250),
            (b"AP", 252),
        ] {
            assert_eq!(index(CountryCode(*name)), Some(expected), "{name:?}");
        }
        for name in [b"ZZ", b"us", b"A1", b"\0\0", b"U?"] {
            assert_eq!(index(CountryCode(*name)), None, "{name:?}");
        }
    }
}
