package kubelet

import (
	"fmt"
	"net"
	"net/netip"
	"runtime"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// Network is a bridge, in the network namespace of the caller, that the pods of a namespace are connected to.
type Network struct {
	bridge *netlink.Bridge
	prefix netip.Prefix
	next   netip.Addr
}

// NewNetwork makes the bridge number n of this sandbox. The caller has its first address.
func NewNetwork(n int) (*Network, error) {
	if n < 0 || n > 255 {
		return nil, fmt.Errorf("%d is no number for a network", n)
	}
	prefix := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 244, byte(n), 0}), 24)
	w := &Network{
		bridge: &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: fmt.Sprintf("pods%d", n)}},
		prefix: prefix,
		next:   prefix.Addr().Next(),
	}
	if err := netlink.LinkAdd(w.bridge); err != nil {
		return nil, fmt.Errorf("adding a bridge: %w", err)
	}
	if err := w.address(&netlink.Handle{}, w.bridge); err != nil {
		return nil, err
	}
	return w, netlink.LinkSetUp(w.bridge)
}

// Close removes the bridge.
func (w *Network) Close() error { return netlink.LinkDel(w.bridge) }

// address gives a link the next address.
func (w *Network) address(h *netlink.Handle, link netlink.Link) error {
	ip := net.IPNet{IP: w.next.AsSlice(), Mask: net.CIDRMask(w.prefix.Bits(), 32)}
	w.next = w.next.Next()
	return h.AddrAdd(link, &netlink.Addr{IPNet: &ip})
}

// endpoint is a pod's network namespace.
type endpoint struct {
	ns   netns.NsHandle
	addr netip.Addr
}

// connect makes a network namespace that is connected to the bridge.
func (w *Network) connect() (e endpoint, err error) {
	e.addr = w.next
	if e.ns, err = newNamespace(); err != nil {
		return e, fmt.Errorf("making a network namespace: %w", err)
	}
	defer func() {
		if err != nil {
			e.ns.Close()
		}
	}()
	attrs := netlink.LinkAttrs{Name: fmt.Sprintf("%s.%d", w.bridge.Name, e.addr.As4()[3]), MasterIndex: w.bridge.Index}
	veth := &netlink.Veth{LinkAttrs: attrs, PeerName: "eth0", PeerNamespace: netlink.NsFd(e.ns)}
	if err := netlink.LinkAdd(veth); err != nil {
		return e, fmt.Errorf("connecting a network namespace: %w", err)
	}
	if err := netlink.LinkSetUp(veth); err != nil {
		return e, err
	}
	h, err := netlink.NewHandleAt(e.ns)
	if err != nil {
		return e, err
	}
	defer h.Close()
	eth, err := h.LinkByName("eth0")
	if err != nil {
		return e, err
	}
	if err := w.address(h, eth); err != nil {
		return e, err
	}
	for _, name := range []string{"lo", "eth0"} {
		link, err := h.LinkByName(name)
		if err != nil {
			return e, err
		}
		if err := h.LinkSetUp(link); err != nil {
			return e, err
		}
	}
	return e, nil
}

// newNamespace makes a network namespace and stays in the present one.
func newNamespace() (netns.NsHandle, error) {
	var made netns.NsHandle
	err := within(netns.None(), func() (err error) {
		made, err = netns.New()
		return err
	})
	return made, err
}

// within calls f on a thread that is in the network namespace, so that what f starts is in it.
func within(ns netns.NsHandle, f func() error) error {
	runtime.LockOSThread()
	home, err := netns.Get()
	if err != nil {
		runtime.UnlockOSThread()
		return err
	}
	defer home.Close()
	if ns.IsOpen() {
		err = netns.Set(ns)
	}
	if err == nil {
		err = f()
	}
	// A thread that cannot go back is not given back: it ends with its goroutine.
	if back := netns.Set(home); back != nil {
		return back
	}
	runtime.UnlockOSThread()
	return err
}
