package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"fencerow/api/shape"
	"fencerow/change"
)

const (
	columnGap = 2
	// columnMin is how short a cell is cut at most: enough to tell names apart.
	columnMin = 8
)

// terminal reports whether people look at the file.
func terminal(f *os.File) bool {
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

// columnsOf is how wide the terminal is that w is; 0 where it is none, and nothing is to be cut.
func columnsOf(w io.Writer) int {
	file, isFile := w.(*os.File)
	if !isFile || !terminal(file) {
		return 0
	}
	size, err := unix.IoctlGetWinsize(int(file.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return 0
	}
	return int(size.Col)
}

// fitted cuts the widest columns of a table until a row fits into the columns of a terminal; 0 cuts nothing.
func fitted(rows [][]string, columns int) [][]string {
	if columns == 0 {
		return rows
	}
	widths := make([]int, len(rows[0]))
	total := columnGap * (len(widths) - 1)
	for i := range widths {
		for _, row := range rows {
			widths[i] = max(widths[i], utf8.RuneCountInString(row[i]))
		}
		total += widths[i]
	}
	for ; total > columns; total-- {
		widest := 0
		for i, width := range widths {
			if width >= widths[widest] {
				widest = i
			}
		}
		if widths[widest] <= columnMin {
			break
		}
		widths[widest]--
	}
	out := make([][]string, len(rows))
	for i, row := range rows {
		out[i] = make([]string, len(row))
		for j, cell := range row {
			out[i][j] = cut(cell, widths[j])
		}
	}
	return out
}

// cut shortens a cell to so many characters, and says so.
func cut(cell string, width int) string {
	if utf8.RuneCountInString(cell) <= width {
		return cell
	}
	return string([]rune(cell)[:width-1]) + "…"
}

// progress shows how far something is on a terminal, and nothing in a pipe. done ends the line.
func (a *asking) progress(ctx context.Context) (tell func(shape.Changefeed, change.Position), done func()) {
	if !terminal(os.Stderr) {
		return func(shape.Changefeed, change.Position) {}, func() {}
	}
	told := false
	return func(f shape.Changefeed, target change.Position) {
			told = true
			_, _ = fmt.Fprintf(os.Stderr, "\r\x1b[K%s", cut(a.howFar(ctx, f, target), max(columnsOf(os.Stderr)-1, columnMin)))
		}, func() {
			if told {
				_, _ = fmt.Fprint(os.Stderr, "\r\x1b[K")
			}
		}
}

// howFar says where a changefeed is. Before it has a checkpoint it reads a snapshot, of which its spans tell.
func (a *asking) howFar(ctx context.Context, f shape.Changefeed, target change.Position) string {
	text := fmt.Sprintf("%s %s: ", f.ID(), f.State)
	if f.Checkpoint == nil {
		if rows, total := a.snapshotRows(ctx); rows > 0 {
			return text + fmt.Sprintf("read %d of about %d rows", rows, max(rows, total))
		}
	}
	if f.Error != nil {
		text += string(f.Error.Code) + ", "
	}
	text += "checkpoint " + position(f.Checkpoint)
	if target > 0 {
		text += " of " + target.String()
	}
	return text
}

func (a *asking) snapshotRows(ctx context.Context) (rows, total int64) {
	spans, err := a.Spans(ctx, a.id)
	if err != nil {
		return 0, 0
	}
	for _, span := range spans.Value.Items {
		rows, total = rows+span.SnapshotRows, total+span.SnapshotTotal
	}
	return rows, total
}
