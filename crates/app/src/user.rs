//! Who of the machine runs the program.

/// The number of the user of the machine.
pub(crate) fn number() -> u32 {
    rustix::process::getuid().as_raw()
}

/// The name of the user of the machine; the number of one whom the machine's own list does not have.
pub(crate) fn name() -> String {
    let number = number().to_string();
    let list = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = list.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == number).then(|| name.to_owned())
    });
    name.unwrap_or(number)
}
