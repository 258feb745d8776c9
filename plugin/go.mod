module navembed

go 1.24
