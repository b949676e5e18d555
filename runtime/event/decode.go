package event

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strconv"

	"github.com/sonde-sh/sonde/codegen/object"
	"github.com/sonde-sh/sonde/lang/types"
	"github.com/sonde-sh/sonde/runtime/value"
)

var order = binary.NativeEndian

// CutBit in a tail's length word tells that the value was longer than its type allows.
const CutBit = 1 << 31

// ID returns the event id of a record; false when the record is too short to have one.
func ID(rec []byte) (uint32, bool) {
	if len(rec) < object.EventHeader {
		return 0, false
	}
	return order.Uint32(rec), true
}

// Decoder decodes the records of one event.
type Decoder struct {
	Event  *object.Event
	Values *value.Decoder
	fields []field
	vals   []value.V
	format value.Format
}

type field struct {
	object.EventField
	// plain tells how printf may write the field straight from the record.
	plain plainKind
}

type plainKind uint8

const (
	plainNo plainKind = iota
	plainSigned
	plainUnsigned
	plainText
	plainInline // a string inside the fixed part
)

// NewDecoder prepares the decoding of an event. The format string of printf-like events is compiled once.
func NewDecoder(ev *object.Event, values *value.Decoder) (*Decoder, error) {
	d := &Decoder{Event: ev, Values: values, vals: make([]value.V, len(ev.Fields))}
	for _, f := range ev.Fields {
		d.fields = append(d.fields, field{EventField: f})
	}
	switch ev.Kind {
	case object.EvPrintf, object.EvErrorf, object.EvWarnf, object.EvCat, object.EvSystem:
		f := value.ParseFormat(ev.Format)
		d.format = f
		for i := range d.fields {
			if i < len(f.Pieces) && f.Pieces[i].Spec.Plain {
				d.fields[i].plain = plainFor(d.fields[i].EventField, f.Pieces[i].Spec.Verb)
			}
		}
	}
	return d, nil
}

func plainFor(f object.EventField, verb string) plainKind {
	switch {
	case f.Type.Kind == types.String && verb == "s":
		if f.Tail {
			return plainText
		}
		return plainInline
	case f.Tail || f.Type.Kind != types.Int:
		return plainNo
	case verb == "d" || verb == "i" || (verb == "s" && f.Type.Signed):
		return plainSigned
	case verb == "s", verb == "u" && !f.Type.Signed: // a negative number is cut to 32 bits, see value.Spec
		return plainUnsigned
	}
	return plainNo
}

// Fields decodes all fields of a record. The result is valid until the next call. A record that is shorter than its layout is an error.
func (d *Decoder) Fields(rec []byte) ([]value.V, error) {
	if err := d.check(rec); err != nil {
		return nil, err
	}
	tail := d.Event.Size
	for i := range d.fields {
		f := &d.fields[i]
		if !f.Tail {
			d.vals[i] = d.Values.Value(f.Type, rec[f.Off:])
			continue
		}
		b, cut, err := d.tail(rec, f.Off, &tail)
		if err != nil {
			return nil, err
		}
		switch f.Type.Kind {
		case types.Buffer:
			d.vals[i] = value.V{Kind: value.Buf, S: string(b)}
		default:
			s := string(b)
			if cut {
				s += d.Values.Trailer
			}
			d.vals[i] = value.V{Kind: value.Str, S: s}
		}
	}
	return d.vals, nil
}

func (d *Decoder) check(rec []byte) error {
	if len(rec) < d.Event.Size {
		return fmt.Errorf("event %d: record of %d bytes, layout has %d", d.Event.ID, len(rec), d.Event.Size)
	}
	for i := range d.fields {
		f := &d.fields[i]
		size := f.Type.Size
		if f.Tail {
			size = 4
		}
		if f.Off+size > d.Event.Size {
			return fmt.Errorf("event %d: field %d ends at %d, fixed part at %d", d.Event.ID, i, f.Off+size, d.Event.Size)
		}
	}
	return nil
}

func (d *Decoder) tail(rec []byte, off int, pos *int) (b []byte, cut bool, err error) {
	w := order.Uint32(rec[off:])
	cut, n := w&CutBit != 0, int(w&^CutBit)
	if n > len(rec)-*pos {
		return nil, false, fmt.Errorf("event %d: tail of %d bytes at %d, record has %d", d.Event.ID, n, *pos, len(rec))
	}
	b = rec[*pos : *pos+n]
	*pos += n
	return b, cut, nil
}

// AppendPrintf appends the text of a printf-like record. Plain integers and strings are written straight from the record.
func (d *Decoder) AppendPrintf(dst, rec []byte) ([]byte, error) {
	if len(rec) < d.Event.Size {
		return dst, d.check(rec)
	}
	tail := d.Event.Size
	for i := range d.format.Pieces {
		p := &d.format.Pieces[i]
		dst = append(dst, p.Text...)
		if i >= len(d.fields) {
			dst = append(dst, "!{missing argument}"...)
			continue
		}
		f := &d.fields[i]
		switch f.plain {
		case plainSigned:
			dst = strconv.AppendInt(dst, int64(value.Word(rec[f.Off:], f.Type.Size, f.Type.Signed)), 10)
			continue
		case plainUnsigned:
			dst = strconv.AppendUint(dst, value.Word(rec[f.Off:], f.Type.Size, f.Type.Signed), 10)
			continue
		case plainInline:
			b := rec[f.Off : f.Off+f.Type.Size]
			n := bytes.IndexByte(b, 0)
			if n >= 0 {
				b = b[:n]
			}
			if dst = append(dst, b...); n < 0 {
				dst = append(dst, d.Values.Trailer...) // the text fills its type: it was cut
			}
			continue
		}
		if !f.Tail {
			dst = p.Spec.Append(dst, d.Values.Value(f.Type, rec[f.Off:]))
			continue
		}
		b, cut, err := d.tail(rec, f.Off, &tail)
		if err != nil {
			return dst, err
		}
		if f.plain == plainText {
			if dst = append(dst, b...); cut {
				dst = append(dst, d.Values.Trailer...)
			}
			continue
		}
		v := value.V{Kind: value.Str, S: string(b)}
		if f.Type.Kind == types.Buffer {
			v.Kind = value.Buf
		} else if cut {
			v.S += d.Values.Trailer
		}
		dst = p.Spec.Append(dst, v)
	}
	return append(dst, d.format.Tail...), nil
}
