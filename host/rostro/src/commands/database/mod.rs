//! `rostro database`: makes and checks the schema of a database of people, and copies people
//! between a folder and a database.

mod check;

use std::cmp::Reverse;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use indicatif::ProgressBar;

use rostro_common::cores::Cores;
use rostro_common::shutdown::Shutdown;
use rostro_common::text::sanitize;
use rostro_database::schema::HalfvecView;
use rostro_database::{
    CopyError, Database, DatabaseError, PostgresStore, check_target, copy, schema,
};
use rostro_gallery::{FolderStore, StateFiles, Store, StoreError};
use rostro_service::DeletionsError;
use rostro_service::deployment::{
    RevisionCopy, RevisionCopyError, StateError, StateFolder, copy_revisions,
};

use crate::config::database::DatabaseAddress;
use crate::config::state::StateArg;
use crate::config::{ConfigError, cores};
use crate::terminal::{say, warn_user};
use check::CheckArgs;

/// Arguments of `rostro database`.
#[derive(Debug, Args)]
pub(crate) struct DatabaseArgs {
    #[command(flatten)]
    address: DatabaseAddress,
    #[command(subcommand)]
    command: DatabaseCommand,
}

#[derive(Debug, Subcommand)]
enum DatabaseCommand {
    /// Make the tables, or bring them to the version of this program
    ///
    /// Needs a role that may create a schema. Concurrent runs wait for each
    /// other, and a second run changes nothing.
    Migrate {
        /// Role of the service, which may then read and write the rows
        #[arg(long, value_name = "ROLE")]
        grant_to: Option<String>,
    },
    /// Copy people, groups, deletions and revisions of a folder into the database
    ///
    /// No service may use either of them. A second run goes on with --replace.
    Import(CopyArgs),
    /// Copy people, groups, deletions and revisions of the database into a folder
    ///
    /// No service may use either of them.
    Export(CopyArgs),
    /// Check server, schema and rights, count what is stored, and name damage
    ///
    /// The exit code is 0 if a service can use the database and no row is
    /// damaged, else 1.
    Check(CheckArgs),
}

/// Arguments of `rostro database import` and `export`.
#[derive(Debug, Args)]
struct CopyArgs {
    /// Folder of CSV files with the enrolled people
    #[arg(
        long,
        env = "ROSTRO_GALLERY",
        value_name = "DIR",
        default_value = "embeddings_csvs"
    )]
    gallery: PathBuf,
    #[command(flatten)]
    state: StateArg,
    /// Replace people and revisions that the target has already
    #[arg(long)]
    replace: bool,
    /// Seconds to wait until no service uses the folders and the database
    #[arg(long, value_name = "SECONDS", default_value_t = 0, value_parser = clap::value_parser!(u64).range(..=86_400))]
    wait_for_lock: u64,
}

/// Direction of a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    Import,
    Export,
}

/// A folder and a database that no service uses.
struct LockedStores {
    folder: FolderStore,
    /// The state folder, if it exists or revisions are written into it.
    state: Option<StateFolder>,
    database: PostgresStore,
}

/// Error of a command on a database.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DatabaseCommandError {
    /// The address is invalid.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The database cannot be used.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// The folder or the database cannot be opened as a gallery.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The state folder cannot be used.
    #[error(transparent)]
    State(#[from] StateError),
    /// The state folder cannot be used as a part of the store.
    #[error("cannot use the state folder: {0}")]
    StateFiles(std::io::Error),
    /// The record of revisions in the database cannot be read.
    #[error("cannot read the revisions of the database: {0}")]
    Record(std::io::Error),
    /// The revisions cannot be copied.
    #[error(transparent)]
    Revisions(#[from] RevisionCopyError),
    /// There is nothing to import.
    #[error("cannot import from {}: there is no such folder; name the gallery with --gallery", .0.display())]
    NoGallery(PathBuf),
    /// A copy ended early.
    #[error(transparent)]
    Copy(#[from] CopyError),
    /// The archive cannot be opened.
    #[error("cannot open the archive {path}: {cause}; name another file", path = path.display())]
    Archive {
        /// The file.
        path: PathBuf,
        /// Cause.
        cause: std::io::Error,
    },
    /// The deletions of the archive cannot be read.
    #[error(transparent)]
    Deletions(#[from] DeletionsError),
    /// Rows of the database are damaged.
    #[error(
        "{0} rows are damaged and left out; enrol the people again, delete them, or restore the database from a backup"
    )]
    DamagedRows(usize),
    /// The record of revisions is damaged.
    #[error(
        "the record of revisions in the database is damaged: {0}; restore the database from a backup"
    )]
    DamagedRecord(String),
    /// Revisions lack components.
    #[error(
        "{0} components of revisions are missing or damaged; push them again with `rostro pipeline push`"
    )]
    DamagedComponents(usize),
    /// Some people were not copied.
    #[error("{0} people or files were not copied; the lines above name them")]
    Incomplete(usize),
}

/// Runs the command.
///
/// # Errors
///
/// [`DatabaseCommandError`] with a remedy in its message.
pub(crate) fn run(args: &DatabaseArgs) -> Result<(), DatabaseCommandError> {
    let options = args.address.options()?;
    let database = Database::open(&options)?;
    match &args.command {
        DatabaseCommand::Migrate { grant_to } => {
            let migrated = schema::migrate(&database, grant_to.as_deref())?;
            for name in &migrated.applied {
                say(&format!("applied {name}"));
            }
            say(&format!("{options}: schema version {}", migrated.version));
            match migrated.halfvec {
                HalfvecView::Present => say("view rostro.embedding_halfvec: made"),
                HalfvecView::LeftOut(reason) => {
                    say(&format!(
                        "view rostro.embedding_halfvec: left out: {}",
                        sanitize(&reason)
                    ));
                }
            }
        }
        DatabaseCommand::Import(args) => {
            let stores = LockedStores::open(args, database, Direction::Import)?;
            let revisions = stores.copy_revisions(Direction::Import, args.replace)?;
            stores.copy_people(Direction::Import, args.replace, revisions)?;
        }
        DatabaseCommand::Export(args) => {
            let folders = NewFolders::of([&args.gallery, &args.state.folder]);
            let begun = LockedStores::open(args, database, Direction::Export).and_then(|stores| {
                let revisions = stores.copy_revisions(Direction::Export, args.replace)?;
                Ok((stores, revisions))
            });
            let (stores, revisions) = begun.inspect_err(|_| folders.remove())?;
            stores.copy_people(Direction::Export, args.replace, revisions)?;
        }
        DatabaseCommand::Check(args) => check::run(&database, args)?,
    }
    Ok(())
}

impl LockedStores {
    /// Opens the folders and the database, which all must be free.
    fn open(
        args: &CopyArgs,
        database: Database,
        direction: Direction,
    ) -> Result<Self, DatabaseCommandError> {
        schema::check(&database)?;
        if direction == Direction::Import && !args.gallery.is_dir() {
            return Err(DatabaseCommandError::NoGallery(args.gallery.clone()));
        }
        let deadline = Instant::now() + Duration::from_secs(args.wait_for_lock);
        let scope = || deadline.into();
        let folder = FolderStore::open_locked(&args.gallery, &scope())?;
        let mut stores = Self {
            folder,
            state: None,
            database: PostgresStore::open_alone(database, &scope())?,
        };
        let has_record = || {
            stores
                .database
                .read_revisions()
                .map(|record| record.is_some())
        };
        let is_needed = args.state.folder.is_dir()
            || direction == Direction::Export
                && has_record().map_err(DatabaseCommandError::Record)?;
        if direction == Direction::Import && !is_needed {
            let folder = args.state.folder.display();
            warn_user(&format!(
                "no revisions are copied: {folder} is not a folder; name the state folder with --state"
            ));
        }
        if is_needed {
            let state = StateFolder::open(&args.state.folder, &scope(), Shutdown::default())?;
            let files =
                StateFiles::open(state.folder()).map_err(DatabaseCommandError::StateFiles)?;
            stores.folder = stores.folder.with_state(files);
            stores.state = Some(state);
        }
        Ok(stores)
    }

    /// Returns the source and the target.
    fn ends(&self, direction: Direction) -> (&dyn Store, &dyn Store) {
        match direction {
            Direction::Import => (&self.folder, &self.database),
            Direction::Export => (&self.database, &self.folder),
        }
    }

    /// Copies the revisions, unless the target has people. Returns their number. They come first,
    /// because people who are recognised by another pipeline than theirs would not be found.
    fn copy_revisions(
        &self,
        direction: Direction,
        replace: bool,
    ) -> Result<usize, DatabaseCommandError> {
        let (from, to) = self.ends(direction);
        check_target(to, replace)?;
        let revisions = match &self.state {
            Some(state) => copy_revisions(state, from, to, replace)?,
            None => RevisionCopy::default(),
        };
        for revision in &revisions.incomplete {
            warn_user(&format!(
                "revision {}: cannot serve, and a component of it is missing",
                revision.short()
            ));
        }
        Ok(revisions.revisions)
    }

    fn copy_people(
        &self,
        direction: Direction,
        replace: bool,
        revisions: usize,
    ) -> Result<(), DatabaseCommandError> {
        let (from, to) = self.ends(direction);
        copy_people(from, to, replace, revisions)
    }
}

/// Folders that did not exist before an export.
struct NewFolders {
    folders: Vec<PathBuf>,
    /// Those that they are in, the innermost first.
    parents: Vec<PathBuf>,
}

impl NewFolders {
    /// Finds those of an export's folders.
    fn of<'a>(folders: impl IntoIterator<Item = &'a PathBuf>) -> Self {
        let folders = folders.into_iter().filter(|folder| !folder.exists());
        let folders: Vec<PathBuf> = folders.cloned().collect();
        let parents = folders.iter().flat_map(|folder| folder.ancestors().skip(1));
        let parents = parents.filter(|parent| !parent.as_os_str().is_empty() && !parent.exists());
        let mut parents: Vec<PathBuf> = parents.map(Path::to_owned).collect();
        parents.sort_by_key(|parent| Reverse(parent.components().count()));
        Self { folders, parents }
    }

    /// Removes them with the locks and the components in them, because nothing was exported.
    fn remove(&self) {
        for folder in &self.folders {
            if let Err(error) = fs::remove_dir_all(folder)
                && error.kind() != ErrorKind::NotFound
            {
                warn_user(&format!("cannot remove {}: {error}", folder.display()));
            }
        }
        for parent in &self.parents {
            // Another program may have put something there.
            let _ = fs::remove_dir(parent);
        }
    }
}

/// Copies people, groups and deletions, with a progress bar, and reports what was left out.
fn copy_people(
    from: &dyn Store,
    to: &dyn Store,
    replace: bool,
    revisions: usize,
) -> Result<(), DatabaseCommandError> {
    let bar = ProgressBar::new(0);
    let report = copy(from, to, replace, &Cores::new(cores()), |done, all| {
        bar.set_length(all as u64);
        bar.set_position(done as u64);
    })?;
    bar.finish_and_clear();
    for problem in &report.problems {
        warn_user(&problem.to_string().escape_debug().to_string());
    }
    for id in &report.too_large {
        warn_user(&format!("{id}: the samples make a file that is too large"));
    }
    for id in &report.without_samples {
        warn_user(&format!(
            "{id}: has only samples of an earlier enrolment, which are not in force"
        ));
    }
    say(&format!(
        "copied {} people with {} samples, {} groups, {} deletions, {revisions} revisions",
        report.people, report.samples, report.groups, report.tombstones
    ));
    match report.problems.len() + report.too_large.len() + report.without_samples.len() {
        0 => Ok(()),
        left_out => Err(DatabaseCommandError::Incomplete(left_out)),
    }
}
