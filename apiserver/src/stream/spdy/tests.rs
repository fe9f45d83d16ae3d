//! Frames as a client makes them, whole and in crumbs.

use super::*;
use proptest::prelude::*;

/// A client's SYN_STREAM.
fn open(pack: &mut Compress, stream: u32, headers: &[(&str, &str)], fin: bool) -> Vec<u8> {
    let mut block = u32::try_from(headers.len()).unwrap().to_be_bytes().to_vec();
    for text in headers.iter().flat_map(|(n, v)| [n, v]) {
        block.extend_from_slice(&u32::try_from(text.len()).unwrap().to_be_bytes());
        block.extend_from_slice(text.as_bytes());
    }
    let mut packed = Vec::with_capacity(block.len() + 256);
    pack.compress_vec(&block, &mut packed, FlushCompress::Sync).unwrap();
    let mut frame = vec![0x80, 3, 0, 1];
    let length = u32::try_from(10 + packed.len()).unwrap() | u32::from(fin) << 24;
    frame.extend_from_slice(&length.to_be_bytes());
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(&[0; 6]);
    frame.extend_from_slice(&packed);
    frame
}

fn packer() -> Compress {
    Encoder::new().pack
}

fn frames(decoder: &mut Decoder) -> Vec<Frame> {
    std::iter::from_fn(|| decoder.next().unwrap()).collect()
}

#[test]
fn streams_with_headers_data_and_ends_are_read_in_any_crumbs() {
    let mut pack = packer();
    let mut bytes = open(&mut pack, 1, &[("Streamtype", "error")], true);
    bytes.extend(open(&mut pack, 3, &[("streamtype", "data"), ("port", "80")], false));
    bytes.extend(&data(3, Bytes::from_static(b"hello"), false)[..]);
    bytes.extend([0x80, 3, 0, 6, 0, 0, 0, 4, 0, 0, 0, 9]);
    bytes.extend(&data(3, Bytes::new(), true)[..]);
    let pair = |n: &str, v: &str| (n.to_owned(), v.to_owned());
    let expected = vec![
        Frame::Open { stream: 1, headers: vec![pair("streamtype", "error")], fin: true },
        Frame::Open {
            stream: 3,
            headers: vec![pair("streamtype", "data"), pair("port", "80")],
            fin: false,
        },
        Frame::Data { stream: 3, data: Bytes::from_static(b"hello"), fin: false },
        Frame::Ping(Bytes::from_static(&[0x80, 3, 0, 6, 0, 0, 0, 4, 0, 0, 0, 9])),
        Frame::Data { stream: 3, data: Bytes::new(), fin: true },
    ];
    for size in [1, 3, 7, bytes.len()] {
        let mut decoder = Decoder::new();
        let mut seen = Vec::new();
        for crumb in bytes.chunks(size) {
            decoder.feed(crumb);
            seen.extend(frames(&mut decoder));
        }
        assert_eq!(seen, expected, "in crumbs of {size}");
    }
}

#[test]
fn headers_larger_than_the_first_guess_unpack() {
    let value = "x".repeat(20_000);
    let mut decoder = Decoder::new();
    decoder.feed(&open(&mut packer(), 1, &[("a", &value)], false));
    match frames(&mut decoder).as_slice() {
        [Frame::Open { headers, .. }] => assert_eq!(headers[0].1.len(), 20_000),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_header_bomb_is_refused() {
    let value = "x".repeat(500_000);
    let mut decoder = Decoder::new();
    decoder.feed(&open(&mut packer(), 1, &[("a", &value)], false));
    assert!(matches!(decoder.next(), Err(SpdyError::LargeHeaders)));
}

#[test]
fn a_frame_that_would_fill_the_memory_is_refused() {
    let mut decoder = Decoder::new();
    decoder.feed(&[0, 0, 0, 1, 0, 0xff, 0xff, 0xff]);
    assert!(matches!(decoder.next(), Err(SpdyError::TooLarge(_))));
}

#[test]
fn a_reply_is_read_by_a_client() {
    let mut encoder = Encoder::new();
    for stream in [1, 3] {
        let reply = encoder.reply(stream);
        assert_eq!(reply[..4], [0x80, 3, 0, 2]);
        assert_eq!(reply[8..12], stream.to_be_bytes());
    }
}

proptest! {
    #[test]
    fn data_of_any_size_comes_back_whole(size in 0usize..3_000_000, fin: bool) {
        let sent = Bytes::from(vec![7u8; size]);
        let mut decoder = Decoder::new();
        decoder.feed(&data(5, sent.clone(), fin));
        let mut back = Vec::new();
        let mut ended = false;
        for frame in frames(&mut decoder) {
            let Frame::Data { stream: 5, data, fin } = frame else { panic!("{frame:?}") };
            prop_assert!(!ended);
            back.extend_from_slice(&data);
            ended = fin;
        }
        prop_assert_eq!(back.len(), size);
        prop_assert_eq!(ended, fin);
    }

    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), control: bool) {
        let mut decoder = Decoder::new();
        if control {
            decoder.feed(&[0x80, 3, 0, 1, 0, 0, 0, 60]);
        }
        decoder.feed(&bytes);
        while let Ok(Some(_)) = decoder.next() {}
    }
}
