//! What tidegate and its guard say to each other: frames of a length and fields over a Unix
//! stream socket, descriptors beside the first byte of a frame. Both ends are the same program,
//! so there are no versions.

use std::ffi::{OsStr, OsString};
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use tokio::io::Interest;
use tokio::net::UnixStream;

/// Largest frame: the kernel takes no longer argument list than this by far.
const MOST_BYTES: usize = 16 << 20;
/// Descriptors of one frame: standard output and standard error.
const DESCRIPTORS: usize = 2;

/// What tidegate asks of the guard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// Sent once, first.
    Hello {
        /// Soft limit of open descriptors for children.
        descriptors: Option<u64>,
        /// Folder to remove at the end.
        folder: PathBuf,
    },
    /// Start a program in a process group of its own; two descriptors come with it.
    Start(Start),
}

/// A program to start.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Start {
    /// Chosen by tidegate, named in every report.
    pub(super) serial: u64,
    /// Absolute path.
    pub(super) program: PathBuf,
    /// Arguments, the program's name first.
    pub(super) argv: Vec<OsString>,
    /// Variables on top of tidegate's own environment.
    pub(super) env: Vec<(OsString, OsString)>,
    /// Working directory; none = tidegate's own.
    pub(super) directory: Option<PathBuf>,
    /// cgroup (v2) to start it in.
    pub(super) cgroup: Option<PathBuf>,
}

impl std::fmt::Debug for Start {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Arguments and variables are left out: they may hold Secrets.
        f.debug_struct("Start")
            .field("serial", &self.serial)
            .field("program", &self.program)
            .finish_non_exhaustive()
    }
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// With this exit status.
    Status(i32),
    /// By this signal.
    Signal(i32),
}

impl std::fmt::Display for End {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Status(status) => write!(f, "exit status {status}"),
            Self::Signal(9) => f.write_str("signal 9 (SIGKILL)"),
            Self::Signal(11) => f.write_str("signal 11 (SIGSEGV)"),
            Self::Signal(15) => f.write_str("signal 15 (SIGTERM)"),
            Self::Signal(signal) => write!(f, "signal {signal}"),
        }
    }
}

/// What the guard reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Report {
    /// It runs; its process id is its group's.
    Started {
        /// Whose.
        serial: u64,
        /// Process id.
        pid: i32,
    },
    /// It could not be started.
    Refused {
        /// Whose.
        serial: u64,
        /// `errno`.
        error: i32,
    },
    /// Its first process ended; others of its group may live on.
    Ended {
        /// Whose.
        serial: u64,
        /// How.
        end: End,
    },
}

struct Writer(Vec<u8>);

impl Writer {
    fn new(kind: u8) -> Self {
        Self(vec![0, 0, 0, 0, kind])
    }

    fn number(mut self, number: u64) -> Self {
        self.0.extend_from_slice(&number.to_le_bytes());
        self
    }

    fn text(mut self, text: &OsStr) -> Self {
        self = self.number(text.len() as u64);
        self.0.extend_from_slice(text.as_bytes());
        self
    }

    /// An optional text; an empty one is none.
    fn maybe(self, text: Option<&PathBuf>) -> Self {
        self.text(text.map_or(OsStr::new(""), |path| path.as_os_str()))
    }

    fn end(mut self) -> Vec<u8> {
        let length = u32::try_from(self.0.len() - 4).unwrap_or(u32::MAX);
        self.0[..4].copy_from_slice(&length.to_le_bytes());
        self.0
    }
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn bytes(&mut self, count: usize) -> io::Result<&[u8]> {
        let (head, rest) = self.0.split_at_checked(count).ok_or_else(broken)?;
        self.0 = rest;
        Ok(head)
    }

    fn byte(&mut self) -> io::Result<u8> {
        Ok(self.bytes(1)?[0])
    }

    fn number(&mut self) -> io::Result<u64> {
        let bytes =
            self.bytes(8)?.try_into().map_err(|_error: std::array::TryFromSliceError| broken())?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn signed(&mut self) -> io::Result<i32> {
        // Written from an `i32`'s bits.
        Ok(self.number()? as u32 as i32)
    }

    fn count(&mut self) -> io::Result<usize> {
        let count = usize::try_from(self.number()?)
            .map_err(|_error: std::num::TryFromIntError| broken())?;
        if count > self.0.len() { Err(broken()) } else { Ok(count) }
    }

    fn text(&mut self) -> io::Result<OsString> {
        let count = self.count()?;
        Ok(OsString::from_vec(self.bytes(count)?.to_vec()))
    }

    fn maybe(&mut self) -> io::Result<Option<PathBuf>> {
        let text = self.text()?;
        Ok((!text.is_empty()).then(|| text.into()))
    }
}

fn broken() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "a frame between tidegate and its guard is broken")
}

fn bits(number: i32) -> u64 {
    u64::from(number as u32)
}

impl Order {
    /// As a frame.
    pub(super) fn encode(&self) -> Vec<u8> {
        match self {
            Self::Hello { descriptors, folder } => Writer::new(0)
                .number(u64::from(descriptors.is_some()))
                .number(descriptors.unwrap_or_default())
                .text(folder.as_os_str())
                .end(),
            Self::Start(start) => {
                let mut writer = Writer::new(1)
                    .number(start.serial)
                    .text(start.program.as_os_str())
                    .maybe(start.directory.as_ref())
                    .maybe(start.cgroup.as_ref())
                    .number(start.argv.len() as u64);
                for argument in &start.argv {
                    writer = writer.text(argument);
                }
                writer = writer.number(start.env.len() as u64);
                for (name, value) in &start.env {
                    writer = writer.text(name).text(value);
                }
                writer.end()
            }
        }
    }

    /// From a frame's content.
    pub(super) fn decode(content: &[u8]) -> io::Result<Self> {
        let mut reader = Reader(content);
        match reader.byte()? {
            0 => {
                let given = reader.number()? != 0;
                let limit = reader.number()?;
                let folder = reader.text()?.into();
                Ok(Self::Hello { descriptors: given.then_some(limit), folder })
            }
            1 => {
                let serial = reader.number()?;
                let program = reader.text()?.into();
                let directory = reader.maybe()?;
                let cgroup = reader.maybe()?;
                let argv = (0..reader.count()?).map(|_| reader.text()).collect::<Result<_, _>>()?;
                let env = (0..reader.count()?)
                    .map(|_| Ok((reader.text()?, reader.text()?)))
                    .collect::<io::Result<_>>()?;
                Ok(Self::Start(Start { serial, program, argv, env, directory, cgroup }))
            }
            _ => Err(broken()),
        }
    }
}

impl Report {
    /// As a frame.
    pub(super) fn encode(&self) -> Vec<u8> {
        match *self {
            Self::Started { serial, pid } => Writer::new(0).number(serial).number(bits(pid)).end(),
            Self::Refused { serial, error } => {
                Writer::new(1).number(serial).number(bits(error)).end()
            }
            Self::Ended { serial, end: End::Status(status) } => {
                Writer::new(2).number(serial).number(bits(status)).end()
            }
            Self::Ended { serial, end: End::Signal(signal) } => {
                Writer::new(3).number(serial).number(bits(signal)).end()
            }
        }
    }

    /// From a frame's content.
    pub(super) fn decode(content: &[u8]) -> io::Result<Self> {
        let mut reader = Reader(content);
        let kind = reader.byte()?;
        let serial = reader.number()?;
        let value = reader.signed()?;
        Ok(match kind {
            0 => Self::Started { serial, pid: value },
            1 => Self::Refused { serial, error: value },
            2 => Self::Ended { serial, end: End::Status(value) },
            3 => Self::Ended { serial, end: End::Signal(value) },
            _ => return Err(broken()),
        })
    }
}

/// Sends a frame, with `descriptors` beside its first byte.
pub(super) async fn send(
    stream: &UnixStream,
    frame: &[u8],
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let mut sent = 0;
    while sent < frame.len() {
        sent += stream
            .async_io(Interest::WRITABLE, || {
                let mut space =
                    [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
                let mut control = SendAncillaryBuffer::new(&mut space);
                if sent == 0 && !descriptors.is_empty() {
                    control.push(SendAncillaryMessage::ScmRights(descriptors));
                }
                let slice = [IoSlice::new(&frame[sent..])];
                Ok(sendmsg(stream, &slice, &mut control, SendFlags::empty())?)
            })
            .await?;
    }
    Ok(())
}

/// Takes frames off a socket.
#[derive(Debug, Default)]
pub(super) struct Frames {
    bytes: Vec<u8>,
    descriptors: Vec<OwnedFd>,
}

impl Frames {
    /// The next frame's content and descriptors; none when the other end is gone. Cancel safe.
    pub(super) async fn next(
        &mut self,
        stream: &UnixStream,
    ) -> io::Result<Option<(Vec<u8>, Vec<OwnedFd>)>> {
        loop {
            let missing = self.missing()?;
            if missing == 0 {
                let content = self.bytes.split_off(4);
                self.bytes.clear();
                return Ok(Some((content, std::mem::take(&mut self.descriptors))));
            }
            let start = self.bytes.len();
            let bytes = &mut self.bytes;
            let descriptors = &mut self.descriptors;
            let read = stream
                .async_io(Interest::READABLE, || {
                    bytes.resize(start + missing, 0);
                    let read = receive(stream, &mut bytes[start..], descriptors);
                    bytes.truncate(start + *read.as_ref().unwrap_or(&0));
                    read
                })
                .await;
            match read {
                Ok(0) => return Ok(None),
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
                Err(error) => return Err(error),
                Ok(_) => {}
            }
        }
    }

    /// Bytes missing to the end of the length, then of the frame. Never more, so that the
    /// descriptors that come along belong to this frame.
    fn missing(&self) -> io::Result<usize> {
        let Some(head) = self.bytes.first_chunk::<4>() else {
            return Ok(4 - self.bytes.len());
        };
        let length = u32::from_le_bytes(*head) as usize;
        if length == 0 || length > MOST_BYTES {
            return Err(broken());
        }
        Ok(length + 4 - self.bytes.len())
    }
}

fn receive(
    stream: &UnixStream,
    bytes: &mut [u8],
    descriptors: &mut Vec<OwnedFd>,
) -> io::Result<usize> {
    #[cfg(target_os = "linux")]
    let flags = RecvFlags::CMSG_CLOEXEC;
    #[cfg(not(target_os = "linux"))]
    let flags = RecvFlags::empty();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let message = recvmsg(stream, &mut [IoSliceMut::new(bytes)], &mut control, flags)?;
    for ancillary in control.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = ancillary {
            descriptors.extend(received);
        }
    }
    #[cfg(not(target_os = "linux"))]
    for descriptor in descriptors.iter() {
        rustix::io::fcntl_setfd(descriptor, rustix::io::FdFlags::CLOEXEC)?;
    }
    Ok(message.bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::{Read, Write};
    use std::os::fd::AsFd;

    proptest! {
        /// What is encoded is what is decoded; a frame cut short is an error, not a panic.
        #[test]
        fn orders_survive_the_wire(
            serial in any::<u64>(),
            argv in prop::collection::vec(prop::collection::vec(1_u8.., 0..20), 0..5),
            env in prop::collection::vec((any::<[u8; 3]>(), any::<[u8; 5]>()), 0..5),
            cut in 0_usize..400,
        ) {
            let order = Order::Start(Start {
                serial,
                program: "/bin/true".into(),
                argv: argv.into_iter().map(OsString::from_vec).collect(),
                env: env
                    .into_iter()
                    .map(|(n, v)| (OsString::from_vec(n.into()), OsString::from_vec(v.into())))
                    .collect(),
                directory: None,
                cgroup: Some("/x".into()),
            });
            let frame = order.encode();
            prop_assert_eq!(Order::decode(&frame[4..]).unwrap(), order);
            if cut + 4 < frame.len() {
                prop_assert!(Order::decode(&frame[4..4 + cut]).is_err());
            }
        }
    }

    #[test]
    fn reports_survive_the_wire() {
        for report in [
            Report::Started { serial: 7, pid: i32::MAX },
            Report::Refused { serial: 8, error: 2 },
            Report::Ended { serial: u64::MAX, end: End::Status(-1) },
            Report::Ended { serial: 9, end: End::Signal(9) },
        ] {
            assert_eq!(Report::decode(&report.encode()[4..]).unwrap(), report);
        }
        assert!(Report::decode(&[9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]).is_err());
    }

    #[tokio::test]
    async fn descriptors_arrive_with_their_frame() {
        let (near, far) = UnixStream::pair().unwrap();
        let (mut reader, writer) = std::io::pipe().unwrap();
        let frame = Order::Hello { descriptors: Some(1), folder: "/f".into() }.encode();
        send(&near, &frame, &[]).await.unwrap();
        send(&near, &frame, &[writer.as_fd()]).await.unwrap();
        drop(writer);
        drop(near);
        let mut frames = Frames::default();
        let (content, none) = frames.next(&far).await.unwrap().unwrap();
        assert_eq!(Order::decode(&content).unwrap().encode(), frame);
        assert!(none.is_empty(), "the second frame's descriptor does not come with the first");
        let (_, mut one) = frames.next(&far).await.unwrap().unwrap();
        assert!(frames.next(&far).await.unwrap().is_none(), "the other end is gone");
        let mut file = std::fs::File::from(one.pop().unwrap());
        file.write_all(b"through").unwrap();
        drop(file);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "through");
    }
}
