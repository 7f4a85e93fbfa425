"""What every other package builds on: settings, inputs, files, state, devices, processes, modes."""
