package cdef

import (
	"os"
	"testing"
	"time"
)

// TestInstalledHeaders reads the machine's own headers the way a script with a name that nothing else knows does.
func TestInstalledHeaders(t *testing.T) {
	if _, err := os.Stat("/usr/include/netdb.h"); err != nil {
		t.Skip("needs the C library's headers in /usr/include")
	}
	for _, c := range []struct{ header, structName, constName string }{
		{"netdb.h", "addrinfo", "AI_CANONNAME"},
		{"sys/socket.h", "msghdr", "SOMAXCONN"},
		{"netinet/in.h", "sockaddr_in", "IN_CLASSA_NET"},
		{"linux/tcp.h", "tcphdr", "TCP_MD5SIG_MAXKEYLEN"},
		{"pwd.h", "passwd", "NSS_BUFLEN_PASSWD"},
		{"linux/input.h", "input_event", "EV_VERSION"},
		{"sys/stat.h", "stat", "UTIME_NOW"},
		{"linux/if_link.h", "rtnl_link_stats", "IFLA_INET6_MAX"},
	} {
		start := time.Now()
		d := mustParse(t, "#include <"+c.header+">\n", Options{ReadFile: os.ReadFile})
		s := d.StructType(c.structName)
		if s == nil || s.Size == 0 {
			t.Errorf("%s: no struct %s", c.header, c.structName)
			continue
		}
		if _, _, ok := d.Const(c.constName); !ok {
			t.Logf("%s: no constant %s", c.header, c.constName)
		}
		t.Logf("%-14s %v struct %s has %d bytes", c.header, time.Since(start), c.structName, s.Size)
	}
}
