"""Raw genomics files turned into arrays around a transcription start site (TSS)."""
