//! The in-kernel half of mc-proxy. One file per hook; maps live beside the program that owns them.
#![no_std]
#![no_main]

mod empty;
mod firewall;
mod geo;
mod relay;
mod routes;

// The kernel offers helpers such as bpf_ktime_get_ns and redirect only to programs under a GPL-compatible licence.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
