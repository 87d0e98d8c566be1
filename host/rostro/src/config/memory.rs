//! Memory limit of this process: the smallest of its cgroups' limits, the machine's memory and its
//! own limit of addresses.

use std::fs;
use std::path::{Component, Path, PathBuf};

/// Memory that this process may use, and the source of the limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Memory {
    /// The limit in bytes.
    pub bytes: u64,
    /// The file or the command that sets the limit.
    pub limited_by: PathBuf,
}

/// Version of cgroups, with its files that limit memory.
struct Hierarchy {
    /// Type of its file system.
    file_system: &'static str,
    /// Controller that a mount must have, and that names the process's group; none for the unified
    /// hierarchy.
    controller: Option<&'static str>,
    /// Mount point if the list of mounts cannot be read.
    default_point: &'static str,
    /// Files of limits. `memory.high` is one, because the kernel throttles a group above it.
    limits: &'static [&'static str],
}

const HIERARCHIES: [Hierarchy; 2] = [
    Hierarchy {
        file_system: "cgroup2",
        controller: None,
        default_point: "/sys/fs/cgroup",
        limits: &["memory.max", "memory.high"],
    },
    Hierarchy {
        file_system: "cgroup",
        controller: Some("memory"),
        default_point: "/sys/fs/cgroup/memory",
        limits: &["memory.limit_in_bytes"],
    },
];

/// Mounted hierarchy of cgroups.
struct Mount {
    /// Group at the top of the mount, as the kernel names it.
    root: PathBuf,
    /// Mount point.
    point: PathBuf,
}

impl Memory {
    /// Name of the limit of a process's address space.
    pub(super) const ADDRESSES: &str = "ulimit -v";

    /// File with the machine's memory.
    pub(super) const MACHINE: &str = "/proc/meminfo";

    /// Reads the limits of this process. None on a system without such limits.
    pub(crate) fn of_this_process() -> Option<Self> {
        Self::read(Path::new("/"))
            .into_iter()
            .chain(Self::of_addresses())
            .min_by_key(|limit| limit.bytes)
    }

    /// Reads the process's limit of address space, which bounds its memory.
    #[cfg(unix)]
    fn of_addresses() -> Option<Self> {
        let limit = rustix::process::getrlimit(rustix::process::Resource::As).current;
        limit.map(|bytes| Self {
            bytes,
            limited_by: Self::ADDRESSES.into(),
        })
    }

    #[cfg(not(unix))]
    fn of_addresses() -> Option<Self> {
        None
    }

    /// Reads the limits below `root`, which is `/` except in tests.
    fn read(root: &Path) -> Option<Self> {
        let text =
            |path: &str| fs::read_to_string(under(root, Path::new(path))).unwrap_or_default();
        let (mounts, groups) = (text("/proc/self/mountinfo"), text("/proc/self/cgroup"));
        let limits = HIERARCHIES
            .iter()
            .flat_map(|hierarchy| hierarchy.limits(root, &mounts, &groups));
        let physical = physical(&text(Self::MACHINE)).map(|bytes| Self {
            bytes,
            limited_by: Self::MACHINE.into(),
        });
        limits.chain(physical).min_by_key(|limit| limit.bytes)
    }

    /// Returns the limit in whole MiB.
    pub(crate) fn mib(&self) -> usize {
        usize::try_from(self.bytes >> 20).unwrap_or(usize::MAX)
    }
}

impl Hierarchy {
    /// Reads the limits of the process's group and of all groups above it.
    fn limits(&self, root: &Path, mounts: &str, groups: &str) -> Vec<Memory> {
        let Some(group) = groups.lines().find_map(|line| self.group(line)) else {
            return Vec::new();
        };
        let mut found: Vec<Mount> = mounts.lines().filter_map(|line| self.mount(line)).collect();
        if found.is_empty() {
            found.push(Mount {
                root: "/".into(),
                point: self.default_point.into(),
            });
        }
        let folders = found.iter().flat_map(|mount| mount.folders(group));
        let files =
            folders.flat_map(|folder| self.limits.iter().map(move |name| folder.join(name)));
        let limit = |file: PathBuf| {
            // `max` in the unified hierarchy means that there is no limit.
            let bytes = fs::read_to_string(under(root, &file))
                .ok()?
                .trim()
                .parse()
                .ok()?;
            Some(Memory {
                bytes,
                limited_by: file,
            })
        };
        files.filter_map(limit).collect()
    }

    /// Parses the process's group from a line of `/proc/self/cgroup` (`ID:CONTROLLERS:GROUP`).
    fn group<'l>(&self, line: &'l str) -> Option<&'l Path> {
        let mut parts = line.splitn(3, ':');
        let (_, controllers, group) = (parts.next()?, parts.next()?, parts.next()?);
        let is_own = match self.controller {
            Some(controller) => controllers.split(',').any(|name| name == controller),
            None => controllers.is_empty(),
        };
        is_own.then_some(Path::new(group))
    }

    /// Parses a mount of this hierarchy from a line of `/proc/self/mountinfo`
    /// (`ID PARENT DEVICE ROOT POINT OPTIONS... - TYPE SOURCE SUPER-OPTIONS`).
    fn mount(&self, line: &str) -> Option<Mount> {
        let (mount, system) = line.split_once(" - ")?;
        let mut system = system.split(' ');
        let (file_system, _, options) = (
            system.next()?,
            system.next()?,
            system.next().unwrap_or_default(),
        );
        let has_controller = self
            .controller
            .is_none_or(|controller| options.split(',').any(|name| name == controller));
        if file_system != self.file_system || !has_controller {
            return None;
        }
        let mut mount = mount.split(' ').skip(3);
        Some(Mount {
            root: unescape(mount.next()?),
            point: unescape(mount.next()?),
        })
    }
}

impl Mount {
    /// Returns the mounted folders of a group and of the groups above it.
    fn folders(&self, group: &Path) -> Vec<PathBuf> {
        // A container that sees only its own group may read the name that the group has outside.
        let inside = group
            .strip_prefix(&self.root)
            .ok()
            .filter(|path| path.components().all(|part| part != Component::ParentDir));
        inside
            .unwrap_or(Path::new(""))
            .ancestors()
            .map(|part| self.point.join(part))
            .collect()
    }
}

/// Moves an absolute path below another root.
fn under(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

/// Decodes a path of `/proc/self/mountinfo`, which writes blanks and backslashes as octal digits.
fn unescape(text: &str) -> PathBuf {
    [
        ("\\040", " "),
        ("\\011", "\t"),
        ("\\012", "\n"),
        ("\\134", "\\"),
    ]
    .iter()
    .fold(text.to_owned(), |text, (escape, letter)| {
        text.replace(escape, letter)
    })
    .into()
}

/// Parses the machine's memory in bytes from `/proc/meminfo`.
fn physical(text: &str) -> Option<u64> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;
    const MEMINFO: &str = "MemTotal:        4096000 kB\nMemFree:          100000 kB\n";
    const V2: &str =
        "30 23 0:26 / /sys/fs/cgroup ro,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n";
    const V1: &str = "30 23 0:26 / /sys/fs/cgroup ro - tmpfs tmpfs rw\n35 30 0:32 / /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n\
                      36 30 0:33 / /sys/fs/cgroup/cpu ro - cgroup cgroup rw,cpu,cpuacct\n";

    /// Mounts, the process's groups, files of groups, the limit, and the file that sets it.
    type Row<'r> = (&'r str, &'r str, &'r [(&'r str, &'r str)], u64, &'r str);

    /// Creates a root folder with these files.
    fn root(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = under(root.path(), Path::new(path));
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    #[test]
    fn smallest_memory_limit_wins() {
        let rows: &[Row<'_>] = &[
            // No limits.
            ("", "", &[], 4000 * MIB, "/proc/meminfo"),
            (
                V2,
                "0::/",
                &[("/sys/fs/cgroup/memory.max", "max\n")],
                4000 * MIB,
                "/proc/meminfo",
            ),
            // A container with a namespace of its own.
            (
                V2,
                "0::/\n",
                &[("/sys/fs/cgroup/memory.max", "536870912\n")],
                512 * MIB,
                "/sys/fs/cgroup/memory.max",
            ),
            (
                V2,
                "0::/",
                &[
                    ("/sys/fs/cgroup/memory.max", "536870912\n"),
                    ("/sys/fs/cgroup/memory.high", "402653184\n"),
                ],
                384 * MIB,
                "/sys/fs/cgroup/memory.high",
            ),
            // A unit in a slice: the smallest limit of all levels counts.
            (
                V2,
                "0::/system.slice/rostro.service\n",
                &[
                    (
                        "/sys/fs/cgroup/system.slice/rostro.service/memory.max",
                        "max",
                    ),
                    ("/sys/fs/cgroup/system.slice/memory.max", "1073741824"),
                    ("/sys/fs/cgroup/memory.max", "2147483648"),
                ],
                1024 * MIB,
                "/sys/fs/cgroup/system.slice/memory.max",
            ),
            // The machine is smaller than the group's limit.
            (
                V2,
                "0::/",
                &[("/sys/fs/cgroup/memory.max", "99999999999")],
                4000 * MIB,
                "/proc/meminfo",
            ),
            // A malformed file is ignored.
            (
                V2,
                "0::/",
                &[("/sys/fs/cgroup/memory.max", "lots")],
                4000 * MIB,
                "/proc/meminfo",
            ),
            // The first version, with and without a limit.
            (
                V1,
                "4:memory:/docker/a1\n0::/\n",
                &[
                    (
                        "/sys/fs/cgroup/memory/docker/a1/memory.limit_in_bytes",
                        "536870912\n",
                    ),
                    (
                        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
                        "9223372036854771712\n",
                    ),
                ],
                512 * MIB,
                "/sys/fs/cgroup/memory/docker/a1/memory.limit_in_bytes",
            ),
            (
                V1,
                "4:memory:/",
                &[(
                    "/sys/fs/cgroup/memory/memory.limit_in_bytes",
                    "9223372036854771712\n",
                )],
                4000 * MIB,
                "/proc/meminfo",
            ),
            // A container of the first version that mounts only its own group.
            (
                "35 30 0:32 /docker/a1 /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n",
                "4:cpu,memory:/docker/a1",
                &[("/sys/fs/cgroup/memory/memory.limit_in_bytes", "268435456\n")],
                256 * MIB,
                "/sys/fs/cgroup/memory/memory.limit_in_bytes",
            ),
            // A group outside the mount: the top of the mount is the nearest visible one.
            (
                V2,
                "0::/../other",
                &[("/sys/fs/cgroup/memory.max", "536870912")],
                512 * MIB,
                "/sys/fs/cgroup/memory.max",
            ),
            // The list of mounts is empty.
            (
                "",
                "0::/",
                &[("/sys/fs/cgroup/memory.max", "536870912")],
                512 * MIB,
                "/sys/fs/cgroup/memory.max",
            ),
            // Another mount point, with a blank in its name.
            (
                "30 23 0:26 / /my\\040groups rw - cgroup2 none rw\n",
                "0::/a",
                &[("/my groups/a/memory.max", "536870912")],
                512 * MIB,
                "/my groups/a/memory.max",
            ),
        ];
        for (mounts, groups, files, bytes, limited_by) in rows {
            let system = [
                ("/proc/self/mountinfo", *mounts),
                ("/proc/self/cgroup", *groups),
                ("/proc/meminfo", MEMINFO),
            ];
            let root = root(&[&system, *files].concat());
            let memory = Memory::read(root.path()).unwrap();
            assert_eq!(
                (memory.bytes, memory.limited_by.as_path()),
                (*bytes, Path::new(limited_by)),
                "{mounts} {groups}"
            );
        }
    }

    #[test]
    fn unknown_system_has_no_limit() {
        assert_eq!(Memory::read(root(&[]).path()), None);
    }
}
