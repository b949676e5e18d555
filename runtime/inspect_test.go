package runtime

import (
	"maps"
	"testing"
)

func TestKnowledge(t *testing.T) {
	tests := []struct {
		name, log string
		want      map[int]string
	}{
		{
			"behind the instruction", "0: R1=ctx() R10=fp0\n0: (85) call bpf_get_current_pid_tgid#14        ; R0_w=scalar()\n1: (bf) r6 = r0                       ; R0_w=scalar(id=1) R6_w=scalar(id=1)\n" +
				"2: (55) if r0 != 0x0 goto pc+1\n",
			map[int]string{0: "R0_w=scalar()", 1: "R0_w=scalar(id=1) R6_w=scalar(id=1)"},
		},
		{
			"before the next one", "0: R1=ctx(id=0,off=0,imm=0) R10=fp0\n; a line of the source\n0: (85) call bpf_get_current_pid_tgid#14\n1: R0_w=inv(id=0) R10=fp0\n1: (bf) r6 = r0\n" +
				"2: R0_w=inv(id=0) R6_w=inv(id=0,umax_value=7,var_off=(0x0; 0x7)) R10=fp0\n2: (7b) *(u64 *)(r10 -8) = r6\n" +
				"3: R0=inv(id=0) R6=inv(id=0,umax_value=7,var_off=(0x0; 0x7)) R10=fp0 fp-8_w=mmmmmmmm\n3: (15) if r0 == 0x0 goto pc+1\n" +
				" R0=inv(id=0) R6=inv(id=0) R10=fp0\n4: (b7) r0 = 0\n5: (95) exit\n\nfrom 3 to 5: R0=inv0 R6=inv(id=0) R10=fp0\n5: (95) exit\n",
			map[int]string{0: "R0=inv(id=0)", 1: "R6=inv(id=0,umax_value=7,var_off=(0x0; 0x7))", 2: "fp-8=mmmmmmmm"},
		},
		{"nothing of use", "processed 3 insns\n", map[int]string{}},
	}
	for _, tt := range tests {
		if got := knowledge(tt.log); !maps.Equal(got, tt.want) {
			t.Errorf("%s: got %v, want %v", tt.name, got, tt.want)
		}
	}
}
