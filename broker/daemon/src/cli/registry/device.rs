//! `signet device`.

use std::fmt::Write as _;

use clap::ValueEnum;
use hyper::Method;

use super::args::{AddArgs, ApproveArgs, DeviceCommand, ListArgs};
use super::{bulk, folder, left, moment, short};
use crate::admin::registry::api::{
    Action, AddDevice, AddDevices, Added, ApproveDevice, CertificateRow, ChangeStanding, Changed, Device,
    Devices, ListDevices, Select, ShowDevice, Shown,
};
use crate::cli::args::AdminArgs;
use crate::cli::operate::call;
use crate::cli::out::{Failure, Outcome, say, say_json};

pub(super) fn device(command: DeviceCommand) -> Result<Outcome, Failure> {
    match command {
        DeviceCommand::List(args) => list(args),
        DeviceCommand::Show { what, admin } => show(&admin, what),
        DeviceCommand::Add(args) if args.from.is_some() => bulk::add(&args),
        DeviceCommand::Add(args) => add(args),
        DeviceCommand::Rotate(args) => super::rotate::rotate(args),
        DeviceCommand::Revoke { select, reason, admin } => {
            change(&admin, Action::Revoke, select.into(), Some(word(&reason)))
        }
        DeviceCommand::Suspend { select, admin } => change(&admin, Action::Suspend, select.into(), None),
        DeviceCommand::Approve(args) => approve(args),
        DeviceCommand::Activate { select, admin } => change(&admin, Action::Activate, select.into(), None),
        DeviceCommand::Quarantine { name, why, admin } => {
            change(&admin, Action::Quarantine, Select { name: Some(name), ..Select::default() }, why)
        }
        DeviceCommand::Release { name, admin } => {
            change(&admin, Action::Release, Select { name: Some(name), ..Select::default() }, None)
        }
    }
}

/// The word of an argument's value.
pub(super) fn word<T: ValueEnum>(value: &T) -> String {
    value.to_possible_value().map(|word| word.get_name().to_owned()).unwrap_or_default()
}

fn list(args: ListArgs) -> Result<Outcome, Failure> {
    let mut wanted = ListDevices {
        after: None,
        status: args.status.as_ref().map(word),
        expiring_within_seconds: args.expiring.map(|within| within.as_secs()),
        thing_type: args.thing_type,
        group: args.group,
    };
    let mut devices = Vec::new();
    let mut unbound = Vec::new();
    loop {
        let page: Devices = call(&args.admin, Method::POST, "/registry/devices/list", Some(&wanted))?;
        devices.extend(page.devices);
        unbound.extend(page.unbound);
        match page.next {
            Some(next) => wanted.after = Some(next),
            None => break,
        }
    }
    if args.admin.json {
        say_json(&Devices { devices, next: None, unbound })?;
    } else {
        say(&table(&devices, &unbound));
    }
    Ok(Outcome::Done)
}

fn table(devices: &[Device], unbound: &[CertificateRow]) -> String {
    let mut text = String::new();
    let _ = writeln!(
        text,
        "{:<24} {:<18} {:<16} {:<10} {:<20} {:<20}",
        "NAME", "STATUS", "CERTIFICATE", "ENDS IN", "LAST SEEN", "FROM"
    );
    for device in devices {
        if device.certificates.is_empty() {
            let _ = writeln!(text, "{:<24} no certificate", device.name);
        }
        for certificate in &device.certificates {
            line(&mut text, device, certificate);
        }
    }
    for certificate in unbound {
        row(&mut text, "-", &certificate.status, certificate);
    }
    let _ = writeln!(text, "{} devices", devices.len());
    text
}

fn line(text: &mut String, device: &Device, certificate: &CertificateRow) {
    let held = device.quarantine.is_some() && certificate.status == "active";
    let status = if held { "quarantined" } else { &certificate.status };
    row(text, &device.name, status, certificate);
}

fn row(text: &mut String, name: &str, status: &str, row: &CertificateRow) {
    let (last, from) = row
        .seen
        .as_ref()
        .map_or(("never".to_owned(), "-"), |seen| (moment(seen.last_ms), seen.address.as_str()));
    let _ = writeln!(
        text,
        "{name:<24} {status:<18} {:<16} {:<10} {last:<20} {from:<20}",
        short(&row.id),
        left(row.not_after)
    );
}

fn show(admin: &AdminArgs, what: String) -> Result<Outcome, Failure> {
    let shown: Shown = call(admin, Method::POST, "/registry/devices/show", Some(&ShowDevice { what }))?;
    if admin.json {
        say_json(&shown)?;
        return Ok(Outcome::Done);
    }
    let mut text = String::new();
    if let Some(device) = &shown.device {
        let _ = writeln!(text, "device        {}", device.name);
        let _ = writeln!(text, "type          {}", device.thing_type.as_deref().unwrap_or("-"));
        let _ = writeln!(text, "groups        {}", device.groups.join(" "));
        for (name, value) in &device.attributes {
            let _ = writeln!(text, "attribute     {name} = {value}");
        }
        let _ = writeln!(text, "added         {}, version {}", moment(device.added_ms), device.version);
        if let Some(quarantine) = &device.quarantine {
            let _ = writeln!(text, "quarantine    since {}: {}", moment(quarantine.since_ms), quarantine.why);
        }
        for certificate in &device.certificates {
            details(&mut text, certificate);
        }
    }
    if let Some(certificate) = &shown.certificate {
        details(&mut text, certificate);
    }
    say(&text);
    Ok(Outcome::Done)
}

pub(super) fn details(text: &mut String, row: &CertificateRow) {
    let end = moment(u64::try_from(row.not_after).unwrap_or(0).saturating_mul(1000));
    let _ = writeln!(text, "\ncertificate   {}", row.id);
    let _ = writeln!(text, "  status      {} (may connect: {})", row.status, row.standing);
    if let Some(since) = row.since_ms {
        let _ = writeln!(
            text,
            "  since       {}, {}",
            moment(since),
            row.reason.as_deref().unwrap_or("suspended")
        );
    }
    let _ = writeln!(text, "  holder      {}", row.holder.as_deref().unwrap_or("nobody yet"));
    let _ = writeln!(text, "  serial      {}", row.serial);
    let _ = writeln!(text, "  subject     {}", row.subject);
    let _ = writeln!(text, "  issuer      {}", row.issuer.as_deref().unwrap_or(&row.issuer_key));
    let _ = writeln!(text, "  valid until {end} ({})", left(row.not_after));
    let _ = writeln!(text, "  registered  {}", moment(row.registered_ms));
    if let Some(by) = &row.replaced_by {
        let _ = writeln!(text, "  replaced by {by}");
    }
    match &row.seen {
        None => text.push_str("  seen        never\n"),
        Some(seen) => {
            let _ = writeln!(
                text,
                "  seen        {} times, first {}, last {} from {} with TLS {}",
                seen.connects,
                moment(seen.first_ms),
                moment(seen.last_ms),
                seen.address,
                seen.tls
            );
        }
    }
}

fn change(
    admin: &AdminArgs,
    action: Action,
    select: Select,
    reason: Option<String>,
) -> Result<Outcome, Failure> {
    let wanted = ChangeStanding { action, select, reason };
    let changed: Changed = call(admin, Method::POST, "/registry/standing", Some(&wanted))?;
    say_changed(admin, &changed)
}

fn approve(args: ApproveArgs) -> Result<Outcome, Failure> {
    let valid_seconds = (!args.withdraw).then_some(args.within.as_secs());
    let wanted = ApproveDevice { name: args.name, valid_seconds };
    let changed: Changed = call(&args.admin, Method::POST, "/registry/devices/approve", Some(&wanted))?;
    say_changed(&args.admin, &changed)
}

pub(super) fn say_changed(admin: &AdminArgs, changed: &Changed) -> Result<Outcome, Failure> {
    if admin.json {
        say_json(changed)?;
        return Ok(Outcome::Done);
    }
    let mut text = String::new();
    for what in &changed.what {
        let _ = writeln!(text, "{what}");
    }
    let untold = changed.events.saturating_sub(changed.what.len() as u64);
    if untold > 0 {
        let _ = writeln!(text, "and {untold} more; `signet audit list` shows them");
    }
    if changed.events == 0 {
        text.push_str("nothing to do: it is so already\n");
    }
    if changed.lost > 0 {
        let _ = writeln!(text, "certificates that can no longer connect: {}", changed.lost);
    }
    say(&text);
    Ok(Outcome::Done)
}

fn add(args: AddArgs) -> Result<Outcome, Failure> {
    let Some(name) = args.name else { return Err(Failure::usage("give a name, or --from FILE")) };
    let out = args.out.as_deref().map(|out| folder::Folder::of(out, &name)).transpose()?;
    let csr = args.csr.as_deref().map(folder::read_csr).transpose()?;
    let public_key = match (&out, args.key) {
        (Some(out), true) => Some(out.key()?),
        _ => None,
    };
    let device = AddDevice {
        name,
        thing_type: args.thing_type,
        groups: args.groups,
        attributes: args.attributes.into_iter().collect(),
        csr,
        public_key,
    };
    let wanted = AddDevices { devices: vec![device] };
    let added: Added = call(&args.admin, Method::POST, "/registry/devices/add", Some(&wanted))?;
    let Some(device) = added.devices.first() else {
        return Err(Failure::usage("the broker answered without a device"));
    };
    if let Some(problem) = &device.problem {
        return Err(Failure::found(format!("{}: {problem}", device.name)));
    }
    if let (Some(out), Some(certificate)) = (&out, &device.certificate) {
        out.store(&device.name, certificate, added.issuer.as_deref())?;
    }
    if args.admin.json {
        say_json(&added)?;
        return Ok(Outcome::Done);
    }
    let mut text = format!("{} is in the registry\n", device.name);
    if let Some(certificate) = &device.certificate {
        let there = if certificate.already { " (it was there already)" } else { "" };
        let _ =
            writeln!(text, "certificate {}, ends in {}{there}", certificate.id, left(certificate.not_after));
        match &out {
            Some(out) => {
                let _ = writeln!(text, "written to {}", out.path().display());
            }
            None => text.push_str(&certificate.pem),
        }
    }
    say(&text);
    Ok(Outcome::Done)
}
