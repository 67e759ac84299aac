//! XDP: the firewall. Parses ([`parse`]), judges (`mc_edge_common::decide` over [`tables`]), counts, and answers with an
//! RST where a rule says so ([`reset`]).

mod parse;
mod reset;
mod tables;

use aya_ebpf::{
    EbpfContext as _, bindings::xdp_action, helpers::bpf_get_prandom_u32, macros::xdp,
    programs::XdpContext,
};
use aya_log_ebpf::debug;
use mc_edge_common::{
    decide::{Decision, Source, decide},
    firewall::{Config, Reason, Verdict, action, rule},
};
use parse::NOT_IP;
use tables::Maps;

/// Judges one packet.
#[xdp]
pub fn firewall(ctx: XdpContext) -> u32 {
    // An array's entry 0 always exists; the verifier wants to see the case handled.
    let Some(config) = tables::CONFIG.get(0) else {
        return xdp_action::XDP_DROP;
    };
    let length = (ctx.data_end() - ctx.data()) as u32;
    match parse::parse(&ctx) {
        Ok(found) if found.version == NOT_IP => {
            tables::count_verdict(Verdict::Pass, Reason::NotIp, length);
            xdp_action::XDP_PASS
        }
        Ok(found) => {
            let Some(found) = tables::forget(found) else {
                return xdp_action::XDP_DROP;
            };
            let packet = found.packet(length);
            let mut decision = decide(&Maps { config, ctx: &ctx }, &packet);
            if matches!(decision.verdict, Verdict::Reset) && !reset::build(&ctx, &found, length) {
                decision.verdict = Verdict::Drop;
            }
            finish(&ctx, config, &decision, length, packet.source)
        }
        Err(reason) => {
            let verdict = match config.unparsed {
                action::PASS => Verdict::Pass,
                action::OBSERVE => Verdict::Observe,
                _ => Verdict::Drop,
            };
            let decision = Decision {
                verdict,
                reason,
                rule: rule::UNPARSED,
            };
            finish(&ctx, config, &decision, length, Source::V4(0))
        }
    }
}

#[inline(always)]
fn finish(
    ctx: &XdpContext,
    config: &Config,
    decision: &Decision,
    length: u32,
    source: Source,
) -> u32 {
    tables::count_verdict(decision.verdict, decision.reason, length);
    tables::count_rule(decision.rule, length);
    match decision.verdict {
        Verdict::Pass | Verdict::Observe => xdp_action::XDP_PASS,
        Verdict::Drop => {
            log(
                ctx,
                config,
                decision.rule,
                decision.verdict,
                decision.reason,
                source,
            );
            xdp_action::XDP_DROP
        }
        Verdict::Reset => {
            log(
                ctx,
                config,
                decision.rule,
                decision.verdict,
                decision.reason,
                source,
            );
            xdp_action::XDP_TX
        }
    }
}

/// Logs one in `log_every` denials. Off, it costs a comparison.
#[inline(always)]
fn log(
    ctx: &XdpContext,
    config: &Config,
    rule: u32,
    verdict: Verdict,
    reason: Reason,
    source: Source,
) {
    if config.log_every == 0 {
        return;
    }
    // SAFETY: the helper has no preconditions.
    if unsafe { bpf_get_prandom_u32() } % config.log_every != 0 {
        return;
    }
    let event = rule | (verdict as u32) << 24 | (reason as u32) << 16;
    match source {
        Source::V4(address) => log4(ctx.as_ptr(), event, address),
        Source::V6(high, low) => log6(ctx.as_ptr(), event, high, low),
    }
}

/// The program's context again, for aya-log's macros, which want one.
struct Context(*mut core::ffi::c_void);

impl aya_ebpf::EbpfContext for Context {
    fn as_ptr(&self) -> *mut core::ffi::c_void {
        self.0
    }
}

// Functions of their own, so that what they keep on the stack is not in the packet path's 512 bytes.
#[inline(never)]
fn log4(ctx: *mut core::ffi::c_void, event: u32, address: u32) {
    let (rule, verdict, reason) = (event & 0x7fff, event >> 24, event >> 16 & 0xff);
    debug!(
        &Context(ctx),
        "verdict={} reason={} rule={} source={:i}", verdict, reason, rule, address
    );
}

#[inline(never)]
fn log6(ctx: *mut core::ffi::c_void, event: u32, high: u64, low: u64) {
    let (rule, verdict, reason) = (event & 0x7fff, event >> 24, event >> 16 & 0xff);
    let address = tables::bytes6(high, low);
    debug!(
        &Context(ctx),
        "verdict={} reason={} rule={} source={:i}", verdict, reason, rule, address
    );
}
