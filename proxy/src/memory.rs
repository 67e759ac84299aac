//! The allocator. A request is dozens of small allocations: with glibc's they are 7 % of a request's time. Freed memory goes back
//! to the system within seconds, also what only loading a GeoIP database needs.
//!
//! Rejected: mimalloc (as fast, keeps 50 to 130 MiB after such a load).

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;
