"""The ground: settings, inputs, files, state, devices, processes, modes."""
