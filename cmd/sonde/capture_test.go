package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sonde-sh/sonde/runtime/kernel"
)

// captured is one packet of a capture file: its bytes, and its length before it was cut.
type captured struct {
	at    time.Time
	data  []byte
	whole int
}

// readCapture reads a file in the classic pcap format, of raw IP and microseconds.
func readCapture(t *testing.T, path string) []captured {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	word := func(off int) int { return int(binary.NativeEndian.Uint32(b[off:])) }
	if len(b) < 24 || word(0) != 0xa1b2c3d4 || word(20) != 101 {
		t.Fatalf("%s has no head of a capture of raw IP: % x", path, b[:min(24, len(b))])
	}
	var out []captured
	for b = b[24:]; len(b) > 0; {
		if len(b) < 16 || len(b) < 16+word(8) {
			t.Fatalf("%s ends inside of packet %d", path, len(out))
		}
		out = append(out, captured{time.Unix(int64(word(0)), int64(word(4))*1000), b[16 : 16+word(8)], word(12)})
		b = b[16+word(8):]
	}
	return out
}

// loopback makes sure that the loopback device is up, which nobody did in a guest.
func loopback(t *testing.T) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	req, err := unix.NewIfreq("lo")
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFFLAGS, req); err != nil {
		t.Fatal(err)
	}
	req.SetUint16(req.Uint16() | unix.IFF_UP)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, req); err != nil {
		t.Fatal(err)
	}
}

// receiver gives a socket for datagrams to this machine, and its port.
func receiver(t *testing.T) (*net.UDPConn, int) {
	t.Helper()
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c, c.LocalAddr().(*net.UDPAddr).Port
}

// send sends datagrams of the given sizes to a receiver and waits until they have come through: the kernel may put off what a device receives.
func send(t *testing.T, to *net.UDPConn, sizes ...int) {
	t.Helper()
	c, err := net.DialUDP("udp4", nil, to.LocalAddr().(*net.UDPAddr))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for i, n := range sizes {
		if _, err := c.Write(bytes.Repeat([]byte{byte('A' + i)}, n)); err != nil {
			t.Fatal(err)
		}
		if err := to.SetReadDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		if got, err := to.Read(make([]byte, 1<<16)); err != nil || got != n {
			t.Fatalf("%d bytes of %d were received: %v", got, n, err)
		}
	}
}

const ipUDP = 28 // bytes of both headers

// TestKernelSkbOutput captures datagrams and looks at every byte of the file.
func TestKernelSkbOutput(t *testing.T) {
	f := openKernel(t).Features()
	if !f.Has("bpf_skb_output") {
		t.Skip("needs bpf_skb_output")
	}
	loopback(t)
	// Ports tell our packets from those of others. The loopback device has 64 KiB for a packet.
	const ours = `$ip = (uint8 *)(args.skb.head + args.skb.network_header); $port = bswap(*(uint16 *)($ip + 22)); if ($ip[0] != 0x45 || $ip[9] != 17 || $port != %d) { return; } `
	cases := []struct {
		what, probe, call, config string
		feature                   string
		sizes                     []int // of the datagrams
		cut                       int   // bytes of each packet that are kept; 0 for all
		want                      string
	}{
		{what: "queued, with the link's header", probe: "rawtracepoint:net_dev_queue", call: "args.skb, args.skb.len, 14", sizes: []int{1, 100, 1400, 9000, 60000}, want: `^(r 0\n)+$`},
		{what: "the first bytes", probe: "rawtracepoint:net_dev_queue", call: "args.skb, 40, 14", sizes: []int{100, 2000}, cut: 40, want: `^(r 0\n)+$`},
		{what: "received, by the function", probe: "fentry:ip_rcv", call: "args.skb, args.skb.len, 0", sizes: []int{5, 1200, 30000}, feature: kernel.FeatureFentry, want: `^(r 0\n)+$`},
		{what: "more than there is", probe: "rawtracepoint:net_dev_queue", call: "args.skb, 1 << 40, 14", sizes: []int{7}, want: `^(r 0\n)+$`},
		{what: "behind the end", probe: "rawtracepoint:net_dev_queue", call: "args.skb, 10, 5000", sizes: []int{7}, cut: -1, want: `^(r 4294967282\n)+$`},
		{what: "too large for the buffer", probe: "rawtracepoint:net_dev_queue", call: "args.skb, args.skb.len, 14", config: "config = { perf_rb_pages = 1 } ", sizes: []int{50, 50000}, cut: -2, want: `^r 0\nr 4294967268\n$`},
	}
	for _, c := range cases {
		t.Run(c.what, func(t *testing.T) {
			if c.feature != "" && !f.Has(c.feature) {
				t.Skip("needs " + c.feature)
			}
			to, port := receiver(t)
			path := filepath.Join(t.TempDir(), "out.pcap")
			prog := c.config + c.probe + " { " + fmt.Sprintf(ours, port) + fmt.Sprintf(`$r = skboutput(%q, %s); printf("r %%d\n", $r); }`, path, c.call)
			start := time.Now()
			out, errs, code := beside(t, []string{"-q", "-e", prog + ` begin { print("attached"); }`}, func() { send(t, to, c.sizes...) })
			if code != 0 {
				t.Fatalf("status %d\n%s", code, errs)
			}
			if out := strings.TrimSpace(strings.ReplaceAll(out, "attached\n", "")) + "\n"; !regexp.MustCompile(c.want).MatchString(out) {
				t.Errorf("output %q, want %q\n%s", out, c.want, errs)
			}
			sizes := c.sizes
			lost := "events lost"
			switch c.cut {
			case -1:
				sizes = nil
			case -2:
				sizes = sizes[:1]
				if !strings.Contains(errs, "net_dev_queue: 1 "+lost) {
					t.Errorf("nothing says that a packet was lost: %s", errs)
				}
				lost = "\x00"
			}
			if strings.Contains(errs, lost) {
				t.Error(errs)
			}
			got := readCapture(t, path)
			if len(got) != len(sizes) {
				t.Fatalf("%d packets, want %d\n%s", len(got), len(sizes), errs)
			}
			// Each CPU has its own buffer: packets that met on two CPUs stand in the file in either order.
			slices.SortStableFunc(got, func(a, b captured) int {
				return bytes.Compare(a.data[min(ipUDP, len(a.data)):], b.data[min(ipUDP, len(b.data)):])
			})
			for i, n := range sizes {
				want := bytes.Repeat([]byte{byte('A' + i)}, n)
				if c.cut > 0 {
					want = want[:min(n, c.cut-ipUDP)]
				}
				p := got[i]
				if p.whole != ipUDP+n || len(p.data) != ipUDP+len(want) || !bytes.Equal(p.data[ipUDP:], want) || int(binary.BigEndian.Uint16(p.data[22:])) != port {
					t.Errorf("packet %d has %d of %d bytes, want %d of %d: % x", i, len(p.data), p.whole, ipUDP+len(want), ipUDP+n, p.data[:min(64, len(p.data))])
				}
				if p.at.Before(start.Add(-time.Second)) || p.at.After(time.Now().Add(time.Second)) {
					t.Errorf("packet %d was sent at %v, now is %v", i, p.at, time.Now())
				}
			}
		})
	}
}

// TestSkbOutputFile: a file that cannot be made ends the run before anything is attached.
func TestSkbOutputFile(t *testing.T) {
	if !openKernel(t).Features().Has("bpf_skb_output") {
		t.Skip("needs bpf_skb_output")
	}
	var out, errs bytes.Buffer
	code := run(context.Background(), []string{"sonde", "-e", `rawtracepoint:net_dev_queue { _ = skboutput("/nowhere/at/all.pcap", args.skb, 10, 0); }`}, stdio{strings.NewReader(""), &out, &errs})
	if code == 0 || !strings.Contains(errs.String(), "/nowhere/at/all.pcap") || strings.Contains(errs.String()+out.String(), "ttached") {
		t.Errorf("status %d\n%s%s", code, out.String(), errs.String())
	}
}
