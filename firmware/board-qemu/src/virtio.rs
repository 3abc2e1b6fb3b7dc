//! The machine's virtio devices: the network card and the source of randomness.

use alloc::alloc::{alloc_zeroed, dealloc};
use core::alloc::Layout;
use core::cell::RefCell;
use core::ptr::{self, NonNull};
use core::task::Context;

use embassy_net_driver::{Capabilities, Driver, HardwareAddress, LinkState, RxToken, TxToken};
use virtio_drivers::device::net::{RxBuffer, VirtIONet};
use virtio_drivers::device::rng::VirtIORng;
use virtio_drivers::transport::mmio::{MmioTransport, VirtIOHeader};
use virtio_drivers::transport::{DeviceType, Transport as _};
use virtio_drivers::{BufferDirection, Hal, PAGE_SIZE, PhysAddr};

/// The eight virtio slots of the `virt` machine.
const FIRST_SLOT: usize = 0x1000_1000;
const SLOT_BYTES: usize = 0x1000;
const SLOTS: usize = 8;
/// Frames in each direction.
const QUEUE: usize = 8;
const FRAME_BYTES: usize = 2048;
const MTU: usize = 1514;

/// Memory for the devices. Physical addresses are the addresses: the machine has no paging on.
pub struct Identity;

fn pages(count: usize) -> Layout {
    // A few pages of 4096 bytes: the layout is always valid.
    Layout::from_size_align(count * PAGE_SIZE, PAGE_SIZE).unwrap_or(Layout::new::<u8>())
}

// SAFETY: the pages come from the heap, aligned and zeroed, and nothing else has them until they are given back.
unsafe impl Hal for Identity {
    fn dma_alloc(count: usize, _: BufferDirection) -> (PhysAddr, NonNull<u8>) {
        // SAFETY: the layout is not empty.
        let block = unsafe { alloc_zeroed(pages(count)) };
        let block = NonNull::new(block).expect("the heap is sized for the devices' queues");
        (block.as_ptr().expose_provenance() as PhysAddr, block)
    }

    unsafe fn dma_dealloc(_: PhysAddr, block: NonNull<u8>, count: usize) -> i32 {
        // SAFETY: the caller promises that it came from `dma_alloc`.
        unsafe { dealloc(block.as_ptr(), pages(count)) };
        0
    }

    unsafe fn mmio_phys_to_virt(address: PhysAddr, _: usize) -> NonNull<u8> {
        NonNull::new(ptr::with_exposed_provenance_mut(address as usize))
            .expect("devices are not at address 0")
    }

    unsafe fn share(buffer: NonNull<[u8]>, _: BufferDirection) -> PhysAddr {
        buffer.cast::<u8>().as_ptr().expose_provenance() as PhysAddr
    }

    unsafe fn unshare(_: PhysAddr, _: NonNull<[u8]>, _: BufferDirection) {}
}

/// The device of this kind, if the machine has one.
fn find(kind: DeviceType) -> Option<MmioTransport<'static>> {
    (0..SLOTS).find_map(|slot| {
        let header = ptr::with_exposed_provenance_mut::<VirtIOHeader>(FIRST_SLOT + slot * SLOT_BYTES);
        // SAFETY: the slots are mapped for as long as the machine runs, and each is asked for once.
        let transport = unsafe { MmioTransport::new(NonNull::new(header)?, SLOT_BYTES) }.ok()?;
        (transport.device_type() == kind).then_some(transport)
    })
}

type Card = VirtIONet<Identity, MmioTransport<'static>, QUEUE>;

/// The network card.
pub struct Network(RefCell<Card>);

impl Network {
    /// The card, if the machine has one.
    pub fn find() -> Option<Self> {
        let card = Card::new(find(DeviceType::Network)?, FRAME_BYTES).ok()?;
        Some(Self(RefCell::new(card)))
    }
}

/// A frame that came.
pub struct Received<'a>(&'a RefCell<Card>, RxBuffer);
/// Room for a frame.
pub struct Room<'a>(&'a RefCell<Card>);

impl RxToken for Received<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(mut self, read: F) -> R {
        let result = read(self.1.packet_mut());
        // The buffer is the card's own: it always takes it back.
        let _ = self.0.borrow_mut().recycle_rx_buffer(self.1);
        result
    }
}

impl TxToken for Room<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, write: F) -> R {
        let mut frame = self.0.borrow().new_tx_buffer(len);
        let result = write(frame.packet_mut());
        // A frame that cannot be sent is lost like one on a wire; TCP sends it again.
        let _ = self.0.borrow_mut().send(frame);
        result
    }
}

impl Driver for Network {
    type RxToken<'a> = Received<'a>;
    type TxToken<'a> = Room<'a>;

    fn receive(&mut self, _: &mut Context<'_>) -> Option<(Received<'_>, Room<'_>)> {
        let frame = self.0.borrow_mut().receive().ok()?;
        Some((Received(&self.0, frame), Room(&self.0)))
    }

    fn transmit(&mut self, _: &mut Context<'_>) -> Option<Room<'_>> {
        self.0.borrow().can_send().then_some(Room(&self.0))
    }

    fn link_state(&mut self, _: &mut Context<'_>) -> LinkState {
        LinkState::Up
    }

    fn capabilities(&self) -> Capabilities {
        let mut capabilities = Capabilities::default();
        capabilities.max_transmission_unit = MTU;
        capabilities
    }

    fn hardware_address(&self) -> HardwareAddress {
        HardwareAddress::Ethernet(self.0.borrow().mac_address())
    }
}

/// The host's randomness.
pub struct Entropy(VirtIORng<Identity, MmioTransport<'static>>);

impl Entropy {
    /// The device, if the machine has one.
    pub fn find() -> Option<Self> {
        VirtIORng::new(find(DeviceType::EntropySource)?).ok().map(Self)
    }

    /// 32 bytes for a generator's seed; `None` when the device does not answer.
    pub fn seed(&mut self) -> Option<[u8; 32]> {
        let mut seed = [0; 32];
        let mut have = 0;
        while have < seed.len() {
            let got = self.0.request_entropy(seed.get_mut(have..)?).ok()?;
            if got == 0 {
                return None;
            }
            have += got;
        }
        Some(seed)
    }
}
