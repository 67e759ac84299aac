//! GeoIP tables.
